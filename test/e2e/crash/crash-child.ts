// The suite's hold on one server process: started early, so that its code is loaded by the time it is needed.
import { type ChildProcess, spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Semaphore } from '../../../src/util/concurrency.ts';
import { within } from '../../../src/util/deadline.ts';
import { Uploader } from '../../contract/cache-uploads.ts';
import type { CrashAnswer, CrashOrder, CrashPlace } from './crash-messages.ts';

const PROGRAM = join(import.meta.dirname, 'crash-server-main.ts');
const ANSWER_MS = 60_000;

type AnswerOf<Kind extends CrashAnswer['kind']> = Extract<CrashAnswer, { readonly kind: Kind }>;

export class CrashChild implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #turn = new Semaphore(1);
  #url = '';
  #token = '';
  #failure: Error | undefined;

  constructor() {
    const env = { ...process.env, NODE_COMPILE_CACHE: join(tmpdir(), 'slipway-crash-compiled') };
    this.#process = spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, PROGRAM], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env,
    });
    this.#ended = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.on('error', () => undefined); // a message to one that has just died
  }

  /** Opens storage and listens. */
  async open(place: CrashPlace, rebuild = false): Promise<void> {
    const { url, token } = await this.#ask({ kind: 'open', place, rebuild }, 'open');
    this.#url = url;
    this.#token = token;
    this.#process.on('message', (answer: CrashAnswer) => {
      if (answer.kind === 'failed')
        this.#failure ??= new Error(`the server's chores failed: ${answer.message}`);
    });
  }

  get url(): string {
    return this.#url;
  }

  get token(): string {
    return this.#token;
  }

  client(cache: string): Uploader {
    return new Uploader(`${this.#url}/${cache}`, this.#token);
  }

  get alive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** Throws what went wrong in the server by itself. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  async work(options: { readonly dieAt?: number | undefined; readonly collect: boolean }): Promise<void> {
    await this.#ask({ kind: 'work', dieAt: options.dieAt, collect: options.collect }, 'done');
  }

  async pin(storePath: string): Promise<void> {
    await this.#ask({ kind: 'pin', storePath }, 'done');
  }

  async fsck(): Promise<AnswerOf<'fsck'>['report']> {
    return (await this.#ask({ kind: 'fsck' }, 'fsck')).report;
  }

  /** kill -9, or waits for the one that it does to itself. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#ended;
  }

  async ended(): Promise<void> {
    await this.#ended;
  }

  /** Ends in order: the journal is written. */
  async close(): Promise<void> {
    this.#process.send({ kind: 'close' } satisfies CrashOrder);
    await within(ANSWER_MS, 'closing a server', async () => await this.#ended);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.alive) await this.kill();
  }

  /** One order at a time, since answers do not say what they answer; rejects when the process dies first. */
  async #ask<Kind extends CrashAnswer['kind']>(order: CrashOrder, kind: Kind): Promise<AnswerOf<Kind>> {
    return await this.#turn.run(async () => await this.#askNow(order, kind));
  }

  async #askNow<Kind extends CrashAnswer['kind']>(order: CrashOrder, kind: Kind): Promise<AnswerOf<Kind>> {
    return await within(ANSWER_MS, `the order ${order.kind}`, async () => {
      return await new Promise<AnswerOf<Kind>>((resolve, reject) => {
        const stop = (): void => {
          this.#process.off('message', hear);
          this.#process.off('exit', die);
        };
        const hear = (answer: CrashAnswer): void => {
          stop();
          if (answer.kind === kind) resolve(answer as AnswerOf<Kind>);
          else reject(new Error(answer.kind === 'failed' ? answer.message : `heard ${answer.kind}`));
        };
        const die = (): void => {
          stop();
          reject(new Error('the server has died'));
        };
        if (!this.alive) return reject(new Error('the server has died'));
        this.#process.on('message', hear);
        this.#process.once('exit', die);
        this.#process.send(order);
      });
    });
  }
}
