// Long work on the event loop in small steps. Many who have such work would each do a step before anything else gets the
// loop; together they get it for a moment only, then whatever came meanwhile has its turn.

/** For how long those who share the loop have it at a time, as long as none of them has to wait. */
const SLICE_MS = 4;

export class LoopShare {
  readonly #waiting: (() => void)[] = [];
  #sliceBegan = -Infinity;

  /** To be awaited before each step, which should take a millisecond or so. First come, first served. */
  async next(): Promise<void> {
    if (this.#waiting.length === 0 && performance.now() - this.#sliceBegan < SLICE_MS) return;
    await new Promise<void>((resolve) => {
      this.#waiting.push(resolve);
      if (this.#waiting.length === 1) setImmediate(() => this.#begin());
    });
  }

  /** One a round of the loop. */
  #begin(): void {
    this.#sliceBegan = performance.now();
    this.#waiting.shift()?.();
    if (this.#waiting.length > 0) setImmediate(() => this.#begin());
  }
}
