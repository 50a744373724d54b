// Turns for work on uploads: so many at once, and not all of them one writer's. A writer whose uploads stand still keeps
// its own turns until they are given up, not everybody's.
import { Semaphore } from '../util/concurrency.ts';

interface OwnTurns {
  readonly turns: Semaphore;
  waiting: number;
}

export class WriterTurns {
  readonly #all: Semaphore;
  readonly #each: number;
  readonly #own = new Map<string, OwnTurns>();

  /** `each`: most turns of one writer at once. */
  constructor(limit: number, each: number) {
    this.#all = new Semaphore(limit);
    this.#each = each;
  }

  /** Runs `work` when it is the writer's turn. */
  async run<T>(writer: string, work: () => Promise<T>): Promise<T> {
    const own = this.#own.get(writer) ?? { turns: new Semaphore(this.#each), waiting: 0 };
    this.#own.set(writer, own);
    own.waiting++;
    try {
      return await own.turns.run(async () => await this.#all.run(work));
    } finally {
      if (--own.waiting === 0) this.#own.delete(writer);
    }
  }
}
