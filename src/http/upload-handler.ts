// Slipway's own protocol, below `/_api/slipway/v1/caches/{cache}`: terms, what is missing, bundles; and what is there.
// Its client is ours: failures are JSON with the status of their code, 5xx included, and are tried again by it.
import type { ServerResponse } from 'node:http';
import { formatIssue } from '../api/issue-text.ts';
import {
  missingPathsQuestion,
  MOST_CHUNKS_A_QUESTION,
  MOST_PATHS_A_QUESTION,
  PUSH_HEADER,
  UPLOAD_PROTOCOL,
  type BundleAnswer,
  type UploadFailure,
  type UploadTerms,
} from '../api/slipway-cache-v1.ts';
import { AUTHENTICATE_CHALLENGE } from '../auth/authorization-header.ts';
import { isCacheName } from '../cache/cache-registry.ts';
import { uploadVersions } from '../cache/upload-terms.ts';
import { asSlipwayError, httpStatus, SlipwayError } from '../util/errors.ts';
import { admitLister, admitUploader, admitWriter, type AccessParts } from './cache-access.ts';
import type { Exchange } from './cache-request.ts';
import { readUpload, readUploadBytes } from './upload-body.ts';

interface UploadParts extends AccessParts {
  readonly maxNarSize: number;
  readonly onError: (error: unknown) => void;
}

export interface UploadUrl {
  readonly cacheName: string;
  readonly action: 'terms' | 'paths' | 'missing-paths' | 'missing-chunks' | 'bundles' | 'unknown';
}

const HASH_BYTES = 32;
const MAX_PATHS_BYTES = 100 + MOST_PATHS_A_QUESTION * 40;

/** `undefined` for URLs outside of this protocol. */
export function parseUploadUrl(url: string): UploadUrl | undefined {
  const [, cacheName, action = ''] =
    /^\/_api\/slipway\/v1\/caches\/([^/?]+)(?:\/([^/?]*))?(?:\?|$)/.exec(url) ?? [];
  if (cacheName === undefined || !isCacheName(cacheName)) return undefined;
  switch (action) {
    case '':
      return { cacheName, action: 'terms' };
    case 'paths':
    case 'missing-paths':
    case 'missing-chunks':
    case 'bundles':
      return { cacheName, action };
    default:
      return { cacheName, action: 'unknown' };
  }
}

export async function handleUpload(parts: UploadParts, url: UploadUrl, exchange: Exchange): Promise<void> {
  exchange.request.socket.setTimeout(0); // transfers have their own limits on stalls
  try {
    checkMethod(url, exchange);
    await dispatch(parts, url, exchange);
  } catch (thrown) {
    const error = asSlipwayError(thrown);
    if (error.code === 'internal' || error.code === 'unavailable') parts.onError(thrown);
    refuse(exchange, error);
  }
}

async function dispatch(
  parts: UploadParts,
  { cacheName, action }: UploadUrl,
  exchange: Exchange,
): Promise<void> {
  switch (action) {
    case 'terms':
      return await sendTerms(parts, cacheName, exchange);
    case 'paths':
      return await sendPaths(parts, cacheName, exchange);
    case 'missing-paths':
      return await sendMissingPaths(parts, cacheName, exchange);
    case 'missing-chunks':
      return await sendMissingChunks(parts, cacheName, exchange);
    case 'bundles':
      return await takeBundle(parts, cacheName, exchange);
    case 'unknown':
      throw new SlipwayError('not_found', 'The upload protocol has no such URL.');
  }
}

async function sendTerms(parts: UploadParts, name: string, exchange: Exchange): Promise<void> {
  const { cache } = await admitWriter(parts, exchange.request, name);
  const terms: UploadTerms = { protocol: UPLOAD_PROTOCOL, ...uploadVersions(), storeDir: cache.storeDir };
  sendJson(exchange.response, 200, terms);
}

/** For mirrors. Even a public cache lists its paths for those alone whom it knows. */
async function sendPaths(parts: UploadParts, name: string, exchange: Exchange): Promise<void> {
  const cache = await admitLister(parts, exchange.request, name);
  const after = /[?&]after=([0-9a-z]{32})(?:&|$)/.exec(exchange.request.url ?? '')?.[1] ?? '';
  sendJson(exchange.response, 200, await parts.cache.listPaths(cache, after));
}

async function sendMissingPaths(parts: UploadParts, name: string, exchange: Exchange): Promise<void> {
  const { cache, base } = await admitWriter(parts, exchange.request, name);
  const question = missingPathsQuestion.safeParse(await readJson(exchange, MAX_PATHS_BYTES));
  if (!question.success)
    throw new SlipwayError('invalid', `The question does not fit: ${formatIssue(question.error.issues[0])}.`);
  const missing = await parts.cache.findMissing([cache, ...(base ? [base] : [])], question.data.paths);
  sendJson(exchange.response, 200, { missing });
}

/** The question is one hash after another; the answer has a byte for each, 1 when the chunk has to be sent. */
async function sendMissingChunks(parts: UploadParts, name: string, exchange: Exchange): Promise<void> {
  const { cache, readable, writer } = await admitUploader(parts, exchange.request, name);
  const body = await readUploadBytes(exchange, MOST_CHUNKS_A_QUESTION * HASH_BYTES);
  if (body.length % HASH_BYTES !== 0)
    throw new SlipwayError('invalid', 'The question is not a list of hashes of 32 bytes.');
  const hashes = Array.from({ length: body.length / HASH_BYTES }, (_, n) =>
    body.subarray(n * HASH_BYTES, (n + 1) * HASH_BYTES),
  );
  const scope = { readable: readable.map(({ id }) => id), cacheId: cache.id, writer: writer.id };
  const missing = await parts.cache.findMissingChunks(scope, hashes);
  send(exchange.response, {
    status: 200,
    type: 'application/octet-stream',
    body: Buffer.from(missing.map(Number)),
  });
}

async function takeBundle(parts: UploadParts, name: string, exchange: Exchange): Promise<void> {
  const access = await admitUploader(parts, exchange.request, name);
  const body = readUpload(exchange, uploadVersions().maxBundle);
  const { maxNarSize } = parts;
  const push = pushOf(exchange.request.headers[PUSH_HEADER]);
  const outcome = await parts.cache.putBundle({ ...access, body, push, maxNarSize });
  const answer: BundleAnswer = {
    paths: outcome.paths.map(({ info, failure }) => ({
      storePath: info.storePath,
      ...(failure && { failure: describe(failure) }),
    })),
    lost: outcome.lost.map((hash) => hash.toString('hex')),
  };
  const refused = outcome.paths.find(({ failure }) => failure !== undefined)?.failure;
  sendJson(exchange.response, refused === undefined ? 200 : httpStatus(refused), answer);
}

/** A name that a client has made up for its push. */
function pushOf(header: string | readonly string[] | undefined): string | undefined {
  return typeof header === 'string' && /^[\w-]{16,64}$/.test(header) ? header : undefined;
}

function checkMethod({ action }: UploadUrl, { request, response }: Exchange): void {
  const wanted = action === 'terms' || action === 'paths' ? ['GET', 'HEAD'] : ['POST'];
  if (action === 'unknown' || wanted.includes(request.method ?? '')) return;
  response.setHeader('allow', wanted.join(', '));
  throw new SlipwayError('invalid', `This URL takes ${wanted.join(' and ')} only.`, {
    facts: { method: true },
  });
}

async function readJson(exchange: Exchange, limit: number): Promise<unknown> {
  const bytes = await readUploadBytes(exchange, limit);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new SlipwayError('invalid', 'The question is not JSON.', { cause });
  }
}

function refuse({ response }: Exchange, error: SlipwayError): void {
  if (response.headersSent) return void response.destroy();
  const status = error.facts['method'] === true ? 405 : httpStatus(error);
  if (status === 401) response.setHeader('www-authenticate', AUTHENTICATE_CHALLENGE);
  const absent = error.facts['absent'] === true;
  sendJson(response, status, { error: describe(error), ...(absent && { absent }) });
}

function describe(error: SlipwayError): UploadFailure {
  if (error.code === 'internal')
    return { code: error.code, message: 'Something failed inside the server; its log says more.' };
  return { code: error.code, message: error.message, ...(error.next !== undefined && { next: error.next }) };
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  send(response, { status, type: 'application/json', body: Buffer.from(JSON.stringify(value)) });
}

function send(
  response: ServerResponse,
  { status, type, body }: { readonly status: number; readonly type: string; readonly body: Buffer },
): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': body.length,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}
