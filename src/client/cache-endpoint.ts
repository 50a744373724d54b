// One cache as its client sees it: base URL, token, and requests that are bounded, retried and explained.
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { deadline } from '../util/deadline.ts';
import { messageOf, SlipwayError, type ErrorCode } from '../util/errors.ts';
import { retry } from '../util/retry.ts';

export interface CacheTarget {
  /** Such as `https://cache.example.org/main`. */
  readonly url: string;
  /** Sent as a Bearer token; held in memory only. */
  readonly token?: string;
}

export interface CacheAnswer {
  readonly status: number;
  readonly body: string;
}

export interface CacheQuestion {
  readonly content?: CacheBody;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  /** On top of the time that the body may take. */
  readonly timeoutMs?: number;
}

export interface CacheBody {
  readonly type: string;
  readonly length: number;
  /** Whether a large body waits for `100 Continue`; by default it does. */
  readonly askFirst?: boolean;
  /** Makes the body anew for each attempt. */
  open(): Readable | Uint8Array;
  /** Called once the body, which open() gave as bytes, is on its way. */
  onSent?(): void;
}

const SMALL_TIMEOUT_MS = 30_000;
/** Slowest upload that is not given up: 64 KiB/s on top of a minute. */
const UPLOAD_BYTES_PER_MS = 64;
const MAX_ANSWER_BYTES = 2 * 1024 * 1024;
const SOCKETS = 16;
/** Beside the cache's own URL, as Attic's clients ask for it. */
const MISSING_PATHS = '../_api/v1/get-missing-paths';
/** Larger bodies wait for `100 Continue`, as newer Nix does. */
const ASK_FIRST_BYTES = 1024 * 1024;
const ASK_FIRST_MS = 1_000;

export class CacheEndpoint implements Disposable {
  readonly #base: URL;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #agent: HttpAgent;

  constructor(target: CacheTarget) {
    this.#base = baseUrl(target.url);
    this.#headers = authorization(new URL(target.url), target.token);
    const options = { keepAlive: true, maxSockets: SOCKETS };
    this.#agent = this.#base.protocol === 'https:' ? new HttpsAgent(options) : new HttpAgent(options);
  }

  get url(): string {
    return this.#base.href;
  }

  /** Whether the cache has the file; anything but 200 and 404 is an error. */
  async has(file: string, signal?: AbortSignal): Promise<boolean> {
    const { status, body } = await this.#retrying('HEAD', file, { signal });
    if (status === 200) return true;
    if (status === 404) return false;
    throw this.#refused('HEAD', file, status, body);
  }

  /** The file's text, or undefined where the cache has none. */
  async find(file: string, signal?: AbortSignal): Promise<string | undefined> {
    const { status, body } = await this.#retrying('GET', file, { signal });
    if (status === 404) return undefined;
    if (status !== 200) throw this.#refused('GET', file, status, body);
    return body;
  }

  /**
   * Which of the store paths' hashes the cache lacks, asked in one request: Attic's `get-missing-paths`, which Slipway has
   * too. `undefined` where the server has no such thing for us; the caller then asks for each path.
   */
  async findMissing(hashes: readonly string[], signal?: AbortSignal): Promise<Set<string> | undefined> {
    const question = Buffer.from(JSON.stringify({ cache: this.name, store_path_hashes: hashes }));
    const content = { type: 'application/json', length: question.length, open: () => question };
    const { status, body } = await this.#retrying('POST', MISSING_PATHS, { content, signal });
    return status === 200 ? parseMissing(body) : undefined;
  }

  async put(file: string, content: CacheBody, signal?: AbortSignal): Promise<void> {
    const { status, body } = await this.#retrying('PUT', file, { content, signal });
    if (status < 200 || status > 299) throw this.#refused('PUT', file, status, body);
  }

  /** A request of Slipway's own protocol, and its answer whatever it says; outages are tried again and then thrown. */
  async ask(method: 'GET' | 'POST', file: string, question: CacheQuestion): Promise<CacheAnswer> {
    return await this.#retrying(method, file, question);
  }

  /** The refusal that an answer is, with what the server says about it. */
  refusal(method: 'GET' | 'POST', file: string, { status, body }: CacheAnswer): SlipwayError {
    return this.#refused(method, file, status, body);
  }

  /** Name of the cache: the last segment of its URL. */
  get name(): string {
    return decodeURIComponent(this.#base.pathname.split('/').at(-2) ?? '');
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }

  async #retrying(method: string, file: string, question: CacheQuestion): Promise<CacheAnswer> {
    const { signal } = question;
    const policy = {
      attempts: 4,
      baseMs: 250,
      maxMs: 4_000,
      retryable: isPassing,
      ...(signal && { signal }),
    };
    return await retry(policy, async () => {
      const answer = await this.#send(method, file, question);
      if (answer.status >= 500 || answer.status === 429)
        throw this.#refused(method, file, answer.status, answer.body);
      return answer;
    });
  }

  async #send(
    method: string,
    file: string,
    { content, headers, signal, timeoutMs = SMALL_TIMEOUT_MS }: CacheQuestion,
  ): Promise<CacheAnswer> {
    const url = new URL(file, this.#base);
    const timeout = timeoutMs + (content ? content.length / UPLOAD_BYTES_PER_MS + 30_000 : 0);
    const start = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const request = start(url, {
      method,
      agent: this.#agent,
      headers: { ...headers, ...this.#headers, ...(content && bodyHeaders(content)) },
      signal: deadline(timeout, signal),
    });
    const answered = new Promise<CacheAnswer>((resolve, reject) => {
      request.once('error', reject);
      request.once('response', (response) => readAnswer(response).then(resolve, reject));
    });
    try {
      await Promise.all([answered, sendBody(request, content, answered)]);
      return await answered;
    } catch (error) {
      if (signal?.aborted === true)
        throw new SlipwayError('cancelled', 'The push was cancelled.', { cause: error });
      throw error instanceof SlipwayError ? error : unavailable(url, error);
    }
  }

  #refused(method: string, file: string, status: number, body: string): SlipwayError {
    const said = explain(body);
    const code = CODES[status] ?? (status >= 500 ? 'unavailable' : 'invalid');
    return new SlipwayError(
      code,
      `The cache answered ${status} to ${method} ${new URL(file, this.#base).href}${said}`,
      {
        ...(NEXT_STEPS[status] !== undefined && { next: NEXT_STEPS[status] }),
        facts: { status },
      },
    );
  }
}

const CODES: Readonly<Record<number, ErrorCode>> = {
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_found',
  409: 'conflict',
  413: 'too_large',
};

const NEXT_STEPS: Readonly<Record<number, string>> = {
  401: 'Check the name of the cache in the URL, and the token (slipway token list shows the scopes).',
  403: 'Ask for a token with the write scope for this cache.',
  404: 'Check the name of the cache in the URL.',
};

/** Without credentials, which must not appear in messages, and without Nix's own settings behind a `?`. */
function baseUrl(text: string): URL {
  const url = new URL(text);
  const path = url.pathname.endsWith('/') ? url.pathname : `${url.pathname}/`;
  return new URL(path, url.origin);
}

function authorization(url: URL, token: string | undefined): Record<string, string> {
  if (token !== undefined) return { authorization: `Bearer ${token}` };
  if (url.password === '') return {};
  const pair = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  return { authorization: `Basic ${Buffer.from(pair).toString('base64')}` };
}

function bodyHeaders(content: CacheBody): Record<string, string> {
  return {
    'content-type': content.type,
    'content-length': String(content.length),
    ...(asksFirst(content) && { expect: '100-continue' }),
  };
}

function asksFirst({ length, askFirst = true }: CacheBody): boolean {
  return askFirst && length > ASK_FIRST_BYTES;
}

type Outgoing = ReturnType<typeof httpRequest>;

/** Sends the body; a server that answers early ends the sending without an error of its own. */
async function sendBody(
  request: Outgoing,
  content: CacheBody | undefined,
  answered: Promise<unknown>,
): Promise<void> {
  const settled = answered.then(
    () => 'answered' as const,
    () => 'answered' as const,
  );
  if (content && asksFirst(content) && (await mayContinue(request, settled)) === 'answered') {
    request.destroy();
    return;
  }
  const body = content?.open();
  if (body === undefined || body instanceof Uint8Array) {
    request.end(body, () => content?.onSent?.());
    return;
  }
  const sending = pipeline(body, request).catch(() => undefined);
  await Promise.race([sending, settled]);
  body.destroy();
}

/** A refusal that comes before a large body spares the upload, and its text is not lost in a broken pipe. */
async function mayContinue(
  request: Outgoing,
  settled: Promise<'answered'>,
): Promise<'answered' | 'continue'> {
  request.flushHeaders();
  let timer: NodeJS.Timeout | undefined;
  const permitted = new Promise<'continue'>((resolve) => {
    request.once('continue', () => resolve('continue'));
    // RFC 9110, 10.1.1: a client does not wait for ever, for many a proxy in between never answers this.
    timer = setTimeout(() => resolve('continue'), ASK_FIRST_MS);
  });
  try {
    return await Promise.race([settled, permitted]);
  } finally {
    clearTimeout(timer);
  }
}

async function readAnswer(response: IncomingMessage): Promise<CacheAnswer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES)
      throw new SlipwayError('too_large', 'The cache answered with more than 2 MiB.');
    chunks.push(chunk);
  }
  return { status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') };
}

function isPassing(error: unknown): boolean {
  return error instanceof SlipwayError && error.code === 'unavailable';
}

function unavailable(url: URL, cause: unknown): SlipwayError {
  const given = cause instanceof Error && ['TimeoutError', 'AbortError'].includes(cause.name);
  const why = given ? 'no answer in time' : messageOf(cause);
  return new SlipwayError('unavailable', `No answer from ${url.origin}: ${why}.`, {
    next: 'Check that the cache runs and that its URL is right.',
    cause,
  });
}

function parseMissing(body: string): Set<string> | undefined {
  try {
    const { missing_paths: missing } = JSON.parse(body) as { missing_paths?: unknown };
    return Array.isArray(missing) ? new Set(missing.map(String)) : undefined;
  } catch {
    return undefined; // some other server's page
  }
}

/** The message of a JSON error answer (Attic's, or ours), or the first line of any other. */
function explain(body: string): string {
  try {
    const parsed = JSON.parse(body) as { message?: unknown; error?: { message?: unknown } };
    const message = parsed.message ?? parsed.error?.message;
    if (typeof message === 'string') return `: ${message.slice(0, 500)}`;
  } catch {
    // not JSON
  }
  const line = body.split('\n')[0]?.trim().slice(0, 200) ?? '';
  return line === '' ? '.' : `: ${line}`;
}
