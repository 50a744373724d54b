// One small HTTP request over node:http(s): the global fetch would cost the agent 12 MB of memory. So would `import
// 'node:http'`: an ES import touches every export, and its WebSocket getter loads undici (59 MB idle instead of 46,
// measured on Node 24.21). TLS is another 6 MB, loaded for the first https URL.
import type { request } from 'node:http';
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
  const { request: send } = loadHttp(url);
  return await new Promise<HttpAnswer>((resolve, reject) => {
    const options = {
      method: wanted.method,
      headers: wanted.headers ?? {},
      signal: deadline(wanted.timeoutMs, wanted.signal),
      agent: false as const,
    };
    const fail = (cause: unknown): void => reject(unavailable(url, cause));
    const sent = send(url, options, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_BODY_BYTES) sent.destroy(new SlipwayError('too_large', 'the answer is too long'));
        else chunks.push(chunk);
      });
      response.on('error', fail);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
      );
    });
    sent.on('error', fail);
    sent.end(wanted.body);
  });
}

function loadHttp(url: URL): { readonly request: typeof request } {
  return process.getBuiltinModule(url.protocol === 'https:' ? 'node:https' : 'node:http');
}

function unavailable(url: URL, cause: unknown): SlipwayError {
  if (cause instanceof SlipwayError) return cause;
  const timedOut = cause instanceof Error && ['TimeoutError', 'AbortError'].includes(cause.name);
  const why = timedOut ? 'no answer in time' : messageOf(cause);
  return new SlipwayError('unavailable', `No answer from ${url.origin}${url.pathname}: ${why}.`, { cause });
}
