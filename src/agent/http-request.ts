// One small HTTP request over node:http(s): the global fetch would cost the agent 12 MB of memory.
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { deadline } from '../util/deadline.ts';
import { messageOf, SlipwayError } from '../util/errors.ts';

export interface HttpRequest {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

const MAX_BODY_BYTES = 64 * 1024;

/** The answer, whatever its status; `unavailable` when there is none, `too_large` over 64 KiB. No redirects. */
export async function sendHttpRequest(wanted: HttpRequest): Promise<HttpAnswer> {
  const url = new URL(wanted.url);
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
  return await new Promise<HttpAnswer>((resolve, reject) => {
    const options = {
      method: wanted.method,
      headers: wanted.headers ?? {},
      signal: deadline(wanted.timeoutMs, wanted.signal),
      agent: false as const,
    };
    const fail = (cause: unknown): void => reject(unavailable(url, cause));
    const request = send(url, options, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_BODY_BYTES) request.destroy(new SlipwayError('too_large', 'the answer is too long'));
        else chunks.push(chunk);
      });
      response.on('error', fail);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
      );
    });
    request.on('error', fail);
    request.end(wanted.body);
  });
}

function unavailable(url: URL, cause: unknown): SlipwayError {
  if (cause instanceof SlipwayError) return cause;
  const timedOut = cause instanceof Error && ['TimeoutError', 'AbortError'].includes(cause.name);
  const why = timedOut ? 'no answer in time' : messageOf(cause);
  return new SlipwayError('unavailable', `No answer from ${url.origin}${url.pathname}: ${why}.`, { cause });
}
