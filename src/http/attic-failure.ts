// Failures as Attic's client reads them: `{"code","error","message"}` with Attic's names (server/src/error.rs).
// A body that is no JSON, or the wrong JSON, is answered in plain text, as Attic's framework does.
import type { AtticError } from '../api/attic-v1.ts';
import { AUTHENTICATE_CHALLENGE } from '../auth/authorization-header.ts';
import { SlipwayError, httpStatus } from '../util/errors.ts';
import type { Exchange } from './cache-request.ts';

/** Attic's error names, with the words that belong to them. */
const MESSAGES = {
  NotFound: 'The URL you requested was not found.',
  Unauthorized: 'Unauthorized.',
  InternalServerError: 'The server encountered an internal error or misconfiguration.',
  NoSuchCache: 'The requested cache does not exist.',
  CacheAlreadyExists: 'The cache already exists.',
  AccessError: 'Access error: User does not have permission to complete this action.',
} as const;

type FixedName = keyof typeof MESSAGES;

export function atticError(name: FixedName): SlipwayError {
  const code = {
    NotFound: 'not_found',
    Unauthorized: 'unauthorized',
    InternalServerError: 'internal',
    NoSuchCache: 'not_found',
    CacheAlreadyExists: 'invalid',
    AccessError: 'forbidden',
  } as const;
  return new SlipwayError(code[name], MESSAGES[name], { facts: { attic: name } });
}

/** A failure that is told in plain text, with a status of its own. */
export function plainFailure(status: 400 | 405 | 415 | 422, message: string, allow?: string): SlipwayError {
  return new SlipwayError('invalid', message, { facts: { plain: status, allow } });
}

export function answerAtticFailure({ request, response }: Exchange, error: SlipwayError): void {
  if (response.headersSent) return void response.destroy();
  const answer = typeof error.facts['plain'] === 'number' ? plainAnswer(error) : jsonAnswer(error);
  const body = Buffer.from(answer.body);
  response.writeHead(answer.status, {
    ...answer.headers,
    'content-length': body.length,
    'x-content-type-options': 'nosniff',
    ...(answer.status === 401 ? { 'www-authenticate': AUTHENTICATE_CHALLENGE } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

function plainAnswer(error: SlipwayError): Answer {
  const { plain, allow } = error.facts;
  return {
    status: Number(plain),
    headers: {
      ...(error.message !== '' && { 'content-type': 'text/plain; charset=utf-8' }),
      ...(typeof allow === 'string' && { allow }),
    },
    body: error.message,
  };
}

function jsonAnswer(error: SlipwayError): Answer {
  const status = httpStatus(error);
  const body: AtticError = { code: status, error: nameOf(error), message: messageOf(error) };
  return { status, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
}

function nameOf(error: SlipwayError): string {
  const { attic } = error.facts;
  if (typeof attic === 'string') return attic;
  switch (error.code) {
    case 'unauthorized':
      return 'Unauthorized';
    case 'forbidden':
      return 'AccessError';
    case 'not_found':
      return 'NotFound';
    case 'internal':
    case 'unavailable':
      return 'InternalServerError';
    default:
      return 'RequestError';
  }
}

/** The client prints it, so the next step stands in it as well. */
function messageOf(error: SlipwayError): string {
  const name = nameOf(error);
  if (name !== 'RequestError') return MESSAGES[name as FixedName];
  const next = error.next === undefined ? '' : ` ${error.next}`;
  return `General request error: ${error.message}${next}`;
}
