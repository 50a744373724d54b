// Threads that decode .xz uploads: made when they are needed, kept for the next one, ended when idle, broken or silent.
// As many as there are uploads worked on at once, so that a slow client keeps nobody else waiting.
import { Worker } from 'node:worker_threads';
import { Semaphore } from '../../util/concurrency.ts';
import { SlipwayError, messageOf } from '../../util/errors.ts';
import { within } from '../../util/deadline.ts';
import type { XzReply, XzRequest } from './xz-worker.ts';

const MOST_THREADS = 8;
const IDLE_MS = 30_000;
/** A thread that takes longer for a megabyte hangs. */
const REPLY_MS = 60_000;
/** Uploads arrive in small pieces; a message a piece would cost more than decoding it. */
const INPUT_BYTES = 64 * 1024;

const slots = new Semaphore(MOST_THREADS);
const idle: XzThread[] = [];

/** Decodes a run of .xz streams; a broken or truncated one is `nar_invalid`. Holds some 2 MiB and the dictionary. */
export async function* decompressXz(body: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  using _slot = await slots.acquire();
  const thread = idle.pop()?.wake() ?? new XzThread();
  try {
    yield* decodeOn(thread, body);
  } finally {
    if (thread.isFree) idle.push(thread.rest());
    else await thread.end();
  }
}

async function* decodeOn(thread: XzThread, body: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  yield* replies(thread, { kind: 'start' });
  for await (const bytes of gathered(body)) yield* replies(thread, { kind: 'input', bytes });
  yield* replies(thread, { kind: 'end' });
}

/** All output that a request gives; the thread works on the next piece while the caller takes this one. */
async function* replies(thread: XzThread, request: XzRequest): AsyncIterable<Buffer> {
  let reply = await thread.ask(request);
  while (reply.kind === 'output') {
    const next = thread.ask({ kind: 'continue' });
    next.catch(() => undefined); // awaited below, unless the caller leaves
    yield Buffer.from(reply.bytes.buffer, reply.bytes.byteOffset, reply.bytes.byteLength);
    reply = await next;
  }
  if (reply.kind === 'failed')
    throw new SlipwayError('nar_invalid', `The xz stream is broken: ${reply.why}.`);
}

async function* gathered(body: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  let pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of body) {
    pieces.push(piece);
    size += piece.length;
    if (size < INPUT_BYTES) continue;
    yield Buffer.concat(pieces);
    pieces = [];
    size = 0;
  }
  if (size > 0) yield Buffer.concat(pieces);
}

class XzThread {
  readonly #worker = new Worker(new URL('xz-worker.ts', import.meta.url), {
    resourceLimits: { maxOldGenerationSizeMb: 64 },
  });
  #settle: { resolve(reply: XzReply): void; reject(error: unknown): void } | undefined;
  #idle: NodeJS.Timeout | undefined;
  #alive = true;

  constructor() {
    this.#worker.on('message', (reply: XzReply) => this.#settle?.resolve(reply));
    this.#worker.on('error', (error) => this.#settle?.reject(error));
    this.#worker.on('exit', () => {
      this.#alive = false;
      this.#settle?.reject(new Error('the thread ended'));
      this.#leave();
    });
  }

  /** Whether it can take another stream: it lives and owes no reply. What it had begun, the next start forgets. */
  get isFree(): boolean {
    return this.#alive && this.#settle === undefined;
  }

  /** One request at a time. A thread that fails or stays silent is `internal`. */
  async ask(request: XzRequest): Promise<XzReply> {
    try {
      return await within(
        REPLY_MS,
        'Decoding a piece of an xz stream',
        async () => await this.#exchange(request),
      );
    } catch (error) {
      throw new SlipwayError('internal', `The xz decoder failed: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Neither a resting thread nor its timer keeps the process alive. */
  rest(): this {
    this.#worker.unref();
    this.#idle = setTimeout(() => {
      this.#leave();
      void this.end();
    }, IDLE_MS).unref();
    return this;
  }

  wake(): this {
    clearTimeout(this.#idle);
    this.#worker.ref();
    return this;
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #leave(): void {
    const place = idle.indexOf(this);
    if (place !== -1) idle.splice(place, 1);
  }

  async #exchange(request: XzRequest): Promise<XzReply> {
    const { promise, resolve, reject } = Promise.withResolvers<XzReply>();
    this.#settle = { resolve, reject };
    this.#worker.postMessage(request, []);
    const reply = await promise;
    this.#settle = undefined;
    return reply;
  }
}
