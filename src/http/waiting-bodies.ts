// Bodies that wait for their clients to take something. Each holds a piece in memory, the smaller the more is held already;
// when there are many, whoever has taken nothing for long makes room for those who come, and when they hold too much all the
// same, whoever has waited longest has to go. He may take his download up where it broke.

export interface CrowdLimits {
  /** That many may wait, for as long as they like. */
  readonly crowd: number;
  /** With more, nobody waits longer than this when another comes, in ms. */
  readonly patienceMs: number;
  /** Up to so many bytes, pieces are handed over as they are. */
  readonly plentyBytes: number;
  /** From there up to so many, they get smaller. */
  readonly tightBytes: number;
  /** With more, those who hold large pieces have to go. */
  readonly mostBytes: number;
}

/** Pieces that get smaller are no smaller than this: others count as large. */
export const SMALLEST_PIECE: number = 16 * 1024;
/** What is left of the room is for so many. */
const SHARES = 64;

interface Body {
  destroy(): unknown;
}

interface Waiting {
  readonly since: number;
  readonly bytes: number;
}

export class WaitingBodies {
  readonly #limits: CrowdLimits;
  /** Whoever waits longest is first. */
  readonly #waiting = new Map<Body, Waiting>();
  #held = 0;

  constructor(limits: CrowdLimits) {
    this.#limits = limits;
  }

  /** To be called when a body begins. */
  makeRoom(now = performance.now()): void {
    if (this.#waiting.size <= this.#limits.crowd) return;
    for (const [body, { since }] of this.#waiting) {
      if (now - since <= this.#limits.patienceMs) return;
      this.#cut(body);
    }
  }

  /** As much of `bytes` as may be handed over at once. A copy, when it is a part: that would keep all of it in memory. */
  fitting(bytes: Buffer): Buffer {
    const { plentyBytes, tightBytes } = this.#limits;
    if (this.#held <= plentyBytes) return bytes;
    const room = Math.max(SMALLEST_PIECE, Math.floor((tightBytes - this.#held) / SHARES));
    return memoryOf(bytes) <= room ? bytes : copyOf(bytes.subarray(0, room));
  }

  /** While `taken` is not settled, the body waits, and holds the memory of `bytes`. */
  async during<T>(body: Body, bytes: Buffer, taken: Promise<T>, now = performance.now()): Promise<T> {
    const waiting = { since: now, bytes: memoryOf(bytes) };
    this.#waiting.set(body, waiting);
    this.#held += waiting.bytes;
    if (this.#held > this.#limits.mostBytes) this.#cutLarge();
    try {
      return await taken;
    } finally {
      if (this.#waiting.get(body) === waiting) this.#forget(body);
    }
  }

  #cutLarge(): void {
    for (const [body, { bytes }] of this.#waiting) {
      if (this.#held <= this.#limits.mostBytes) return;
      if (bytes > SMALLEST_PIECE) this.#cut(body);
    }
  }

  #cut(body: Body): void {
    this.#forget(body);
    body.destroy();
  }

  #forget(body: Body): void {
    this.#held -= this.#waiting.get(body)?.bytes ?? 0;
    this.#waiting.delete(body);
  }
}

/** A part of a buffer keeps all of it in memory. */
function memoryOf(bytes: Buffer): number {
  return bytes.buffer.byteLength;
}

function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}
