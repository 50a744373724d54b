// Failures as answers: `{code, message, next}` with the status from the one table. What is `internal` is told to the
// log in full and to the client not at all.
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { asSlipwayError, httpStatus, type SlipwayError } from '../util/errors.ts';
import type { AppContext } from './peer.ts';

export function answerError(c: AppContext, thrown: unknown, onError: (error: unknown) => void): Response {
  const error = asSlipwayError(thrown);
  if (error.code === 'internal') onError(thrown);
  const status = httpStatus(error) as ContentfulStatusCode;
  // Bearer, not Basic: a browser would answer a Basic challenge of the page's own requests with a password box.
  if (status === 401) c.header('www-authenticate', 'Bearer realm="slipway"');
  c.header('cache-control', 'no-store');
  return c.json(errorBody(error), status);
}

function errorBody(error: SlipwayError): { code: string; message: string; next?: string } {
  if (error.code === 'internal') {
    return {
      code: 'internal',
      message: 'Something failed inside the server.',
      next: "See the server's log.",
    };
  }
  return { code: error.code, message: error.message, ...(error.next !== undefined && { next: error.next }) };
}
