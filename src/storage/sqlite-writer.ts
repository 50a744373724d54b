// The thread that writes an SQLite file for this one (sqlite-writer-thread.ts): made for the first statement, ended when
// nothing was written for a while, made again for the next. An idle server has none.
import { Worker } from 'node:worker_threads';
import { SlipwayError, messageOf } from '../util/errors.ts';
import type { StatementReply, StatementRequest } from './sqlite-writer-thread.ts';

const IDLE_MS = 3_000;
/** Rows and parameters live for one statement. */
const LIMITS = { maxYoungGenerationSizeMb: 8 };

export type StatementResult = Exclude<StatementReply, { readonly kind: 'failed' }>;

export class SqliteWriter {
  readonly #path: string;
  #thread: WriterThread | undefined;
  #idle: NodeJS.Timeout | undefined;
  #ending: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  /** Keeps the thread until `release`. One holder at a time. */
  async hold(): Promise<WriterThread> {
    clearTimeout(this.#idle);
    await this.#ending;
    if (this.#thread?.alive !== true) this.#thread = new WriterThread(this.#path);
    return this.#thread;
  }

  release(): void {
    this.#idle = setTimeout(() => this.#end(), IDLE_MS).unref();
  }

  /** Every statement is over by now. */
  async close(): Promise<void> {
    clearTimeout(this.#idle);
    this.#end();
    await this.#ending;
  }

  #end(): void {
    const thread = this.#thread;
    this.#thread = undefined;
    if (thread !== undefined) this.#ending = thread.close();
  }
}

export class WriterThread {
  readonly #worker: Worker;
  readonly #exited = Promise.withResolvers<void>();
  #settle: { resolve(reply: StatementReply): void; reject(error: unknown): void } | undefined;
  #failure: unknown;
  alive = true;

  constructor(path: string) {
    const worker = new Worker(new URL('sqlite-writer-thread.ts', import.meta.url), {
      workerData: path,
      resourceLimits: LIMITS,
    });
    worker.unref(); // only a statement under way keeps the process alive
    worker.on('message', (reply: StatementReply) => this.#settle?.resolve(reply));
    worker.on('error', (error) => (this.#failure = error));
    worker.on('exit', () => {
      this.alive = false;
      this.#settle?.reject(ended(this.#failure));
      this.#exited.resolve();
    });
    this.#worker = worker;
  }

  /** One statement at a time. What SQLite refuses has its `errcode`. */
  async run(sql: string, parameters: readonly unknown[]): Promise<StatementResult> {
    if (!this.alive) throw ended(this.#failure);
    const { promise, resolve, reject } = Promise.withResolvers<StatementReply>();
    this.#settle = { resolve, reject };
    this.#worker.ref();
    this.#post({ kind: 'run', sql, parameters });
    const reply = await promise.finally(() => this.#worker.unref());
    this.#settle = undefined;
    if (reply.kind !== 'failed') return reply;
    throw Object.assign(new Error(reply.why), reply.errcode !== undefined && { errcode: reply.errcode });
  }

  async close(): Promise<void> {
    if (!this.alive) return;
    this.#worker.ref();
    this.#post({ kind: 'close' });
    await this.#exited.promise;
  }

  #post(request: StatementRequest): void {
    this.#worker.postMessage(request, []);
  }
}

/** Its transaction is undone; the next one gets a thread of its own. */
function ended(failure: unknown): SlipwayError {
  const why = failure === undefined ? 'it ended' : messageOf(failure);
  return new SlipwayError('unavailable', `The thread that writes the database failed: ${why}`, {
    cause: failure,
  });
}
