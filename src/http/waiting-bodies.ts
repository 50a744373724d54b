// Bodies that wait for their clients to take something. Each holds a piece in memory; when there are many, whoever has
// taken nothing for long makes room for those who come. He may take his download up where it broke.

export interface CrowdLimits {
  /** That many may wait, for as long as they like. */
  readonly crowd: number;
  /** With more, nobody waits longer than this when another comes, in ms. */
  readonly patienceMs: number;
}

interface Body {
  destroy(): unknown;
}

export class WaitingBodies {
  readonly #limits: CrowdLimits;
  /** Since when; whoever waits longest is first. */
  readonly #since = new Map<Body, number>();

  constructor(limits: CrowdLimits) {
    this.#limits = limits;
  }

  /** To be called when a body begins. */
  makeRoom(now = performance.now()): void {
    if (this.#since.size <= this.#limits.crowd) return;
    for (const [body, since] of this.#since) {
      if (now - since <= this.#limits.patienceMs) return;
      this.#since.delete(body);
      body.destroy();
    }
  }

  /** While `taken` is not settled, the body waits. */
  async during<T>(body: Body, taken: Promise<T>, now = performance.now()): Promise<T> {
    this.#since.set(body, now);
    try {
      return await taken;
    } finally {
      this.#since.delete(body);
    }
  }
}
