// Files that are fetched once, however many clients want them: each goes to a file without a name (spool.ts), from which
// everybody reads at his own pace. A failure before the first byte means that the file is absent; a later one breaks the
// transfers off.
import { begun } from '../../util/begun.ts';
import { Semaphore } from '../../util/concurrency.ts';
import { Spool } from './spool.ts';

export interface SharedFetchesParts {
  /** Where files lie while they are fetched. */
  readonly directory: string;
  /** Fetches at once; more wait their turn. */
  readonly atOnce: number;
  /** Called for each reader that joins a fetch which another has begun. */
  readonly onShared: () => void;
  /** Hears of a disk that cannot be written to. */
  readonly onProblem: (error: unknown) => void;
}

export interface SharedFetch {
  readonly key: string;
  readonly size: number;
  /**
   * Appends the whole file, and proves it once it is known to be right; rejects, having reported it, when it is not.
   * `signal` fires when the fetch is to be given up.
   */
  readonly fetch: (spool: Spool, signal: AbortSignal) => Promise<void>;
}

interface RunningFetch {
  readonly spool: Promise<Spool>;
  readonly done: Promise<void>;
}

export class SharedFetches implements AsyncDisposable {
  readonly #parts: SharedFetchesParts;
  readonly #running = new Map<string, RunningFetch>();
  readonly #turns: Semaphore;
  readonly #closing = new AbortController();

  constructor(parts: SharedFetchesParts) {
    this.#parts = parts;
    this.#turns = new Semaphore(parts.atOnce);
  }

  /** Bytes `start` to `end`, the first of them there already; `undefined` when the file cannot be had. */
  async read(wanted: SharedFetch, start: number, end: number): Promise<AsyncIterable<Buffer> | undefined> {
    if (this.#closing.signal.aborted) return undefined;
    try {
      const spool = await this.#share(wanted).spool;
      return await begun(spool.read(start, end));
    } catch {
      return undefined; // reported by the fetch itself
    }
  }

  /** Fetches under way are given up. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled([...this.#running.values()].map(async ({ done }) => await done));
  }

  #share(wanted: SharedFetch): RunningFetch {
    const running = this.#running.get(wanted.key);
    if (running) {
      this.#parts.onShared();
      return running;
    }
    const spool = Spool.open(this.#parts.directory, wanted.size);
    const done = this.#run(wanted, spool).finally(() => this.#running.delete(wanted.key));
    done.catch(() => undefined); // reported where it happens
    const fetch = { spool, done };
    this.#running.set(wanted.key, fetch);
    return fetch;
  }

  async #run({ fetch }: SharedFetch, opening: Promise<Spool>): Promise<void> {
    using _turn = await this.#turns.acquire();
    const spool = await opening.catch((error: unknown) => {
      this.#parts.onProblem(error);
      throw error;
    });
    try {
      await fetch(spool, this.#closing.signal);
    } catch (error) {
      spool.fail(error);
      throw error;
    } finally {
      await spool.release();
    }
  }
}
