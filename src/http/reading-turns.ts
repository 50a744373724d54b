// Turns of responses that read from storage: each holds in memory what it has read and its client has not taken. A response
// whose client takes nothing keeps its turn until somebody needs it; then whoever waits longest for his client gives his.

export class ReadingTurns {
  #free: number;
  readonly #wanted: (() => void)[] = [];
  /** Turns whose holders wait for their clients, and how to take them away; who waits longest is first. */
  readonly #idle = new Map<ReadingTurn, () => void>();
  /** Turns that were taken away and are not given back yet. */
  #owed = 0;

  constructor(limit: number) {
    this.#free = limit;
  }

  /** First come, first served. The turn lasts until it is disposed of. */
  async take(): Promise<ReadingTurn> {
    if (this.#free > 0) this.#free--;
    else
      await new Promise<void>((resolve) => {
        this.#wanted.push(resolve);
        this.#reclaim();
      });
    return new ReadingTurn({
      idle: (turn, lose) => this.#addIdle(turn, lose),
      busy: (turn) => void this.#idle.delete(turn),
      end: (lost) => this.#end(lost),
    });
  }

  #addIdle(turn: ReadingTurn, lose: () => void): void {
    this.#idle.set(turn, lose);
    // What the kernel takes at once is taken by then.
    if (this.#wanted.length > this.#owed) setImmediate(() => this.#reclaim());
  }

  #reclaim(): void {
    for (const [turn, lose] of this.#idle) {
      if (this.#wanted.length <= this.#owed) return;
      this.#idle.delete(turn);
      this.#owed++;
      lose();
    }
  }

  #end(lost: boolean): void {
    if (lost) this.#owed--;
    const next = this.#wanted.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}

interface TurnEvents {
  readonly idle: (turn: ReadingTurn, lose: () => void) => void;
  readonly busy: (turn: ReadingTurn) => void;
  readonly end: (lost: boolean) => void;
}

export class ReadingTurn implements Disposable {
  readonly #events: TurnEvents;
  #lost = false;

  constructor(events: TurnEvents) {
    this.#events = events;
  }

  /**
   * What the client's taking came to; `lost` when the turn was taken away before: what was read is then to be let go, and
   * the turn disposed of.
   */
  async during<T>(taken: Promise<T>): Promise<T | 'lost'> {
    const lost = new Promise<'lost'>((resolve) =>
      this.#events.idle(this, () => {
        this.#lost = true;
        resolve('lost');
      }),
    );
    try {
      const outcome = await Promise.race([taken, lost]);
      return this.#lost ? 'lost' : outcome; // both may have happened
    } finally {
      this.#events.busy(this);
    }
  }

  [Symbol.dispose](): void {
    this.#events.end(this.#lost);
  }
}
