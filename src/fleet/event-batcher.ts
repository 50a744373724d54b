// Gathers the events of one run into few transactions: a build that prints fast must not cost a disk flush a line.
import type { RunEvent } from '../api/run-events.ts';

export interface EventBatcherOptions {
  /** Stores one batch; batches come one after another, in order. */
  readonly store: (events: readonly RunEvent[]) => Promise<void>;
  /** Called once when storing fails for good; the batcher takes no events after that. */
  readonly onError: (error: unknown) => void;
}

/** Long enough to gather a burst, short enough to be live. */
const GATHER_MS = 50;
const MOST_IN_BATCH = 500;
/** Events that wait while the database is slow; log lines over this are left out. */
const MOST_WAITING = 20_000;

export class EventBatcher implements AsyncDisposable {
  readonly #options: EventBatcherOptions;
  #waiting: RunEvent[] = [];
  #leftOut = 0;
  #work: Promise<void> | undefined;
  #failed = false;

  constructor(options: EventBatcherOptions) {
    this.#options = options;
  }

  add(event: RunEvent): void {
    if (this.#failed) return;
    if (event.kind === 'log' && this.#waiting.length >= MOST_WAITING) this.#leftOut++;
    else this.#waiting.push(event);
    this.#work ??= this.#storeSoon();
  }

  /** Resolves when everything that was added is stored. */
  async [Symbol.asyncDispose](): Promise<void> {
    while (this.#work) await this.#work;
  }

  async #storeSoon(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, GATHER_MS));
    try {
      while (this.#waiting.length > 0) await this.#options.store(this.#nextBatch());
    } catch (error) {
      this.#failed = true;
      this.#waiting = [];
      this.#options.onError(error);
    } finally {
      this.#work = undefined;
    }
  }

  #nextBatch(): RunEvent[] {
    const batch = this.#waiting.splice(0, MOST_IN_BATCH);
    const [first] = batch;
    if (this.#leftOut === 0 || first === undefined) return batch;
    const line = `… ${this.#leftOut} log lines came too fast and were left out.`;
    this.#leftOut = 0;
    return [...batch, { kind: 'log', at: first.at, stage: 'build', line }];
  }
}
