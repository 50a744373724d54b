// Failures of the data plane as Nix clients take them: plain text, because Nix prints the body to the person.
// A PUT is never answered with 5xx, 408 or 429: Nix 2.8 then retries without a body and hangs. It gets 422 instead.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { AUTHENTICATE_CHALLENGE } from '../auth/authorization-header.ts';
import { httpStatus, type SlipwayError } from '../util/errors.ts';

export function answerCacheFailure(
  request: IncomingMessage,
  response: ServerResponse,
  error: SlipwayError,
): void {
  // A body that has begun cannot be taken back: cutting it short is the only honest end.
  if (response.headersSent) return void response.destroy();
  const text = Buffer.from(textOf(error));
  const status = statusOf(request, error);
  response.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'content-length': text.length,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(status === 401 ? { 'www-authenticate': AUTHENTICATE_CHALLENGE } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : text);
}

function statusOf(request: IncomingMessage, error: SlipwayError): number {
  const status = httpStatus(error);
  if (request.method !== 'PUT') return error.code === 'invalid' && isUnknownMethod(request) ? 405 : status;
  return status >= 500 || status === 408 || status === 429 ? 422 : status;
}

function isUnknownMethod(request: IncomingMessage): boolean {
  return request.method !== 'GET' && request.method !== 'HEAD';
}

function textOf(error: SlipwayError): string {
  if (error.code === 'internal') return 'Something failed inside the server; its log says more.\n';
  return error.next === undefined ? `${error.message}\n` : `${error.message}\n${error.next}\n`;
}
