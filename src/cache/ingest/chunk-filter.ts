// Which chunks some content uses, in two bytes a chunk: a Bloom filter. It may say "used" of a chunk that is not, about
// one time in two thousand, and never the other way round: garbage may stay a while, nothing needed ever goes.
// Each filter has a salt of its own, so that the next collection errs about other chunks.
import { randomBytes } from 'node:crypto';

const BITS_A_CHUNK = 16;
const PROBES = 8;
/** 512 MB, for 256 million chunks: 32 TB of them. More chunks make the filter err more often, no worse. */
const MOST_BITS = 2 ** 32;

export class ChunkFilter {
  readonly #bits: Uint8Array;
  readonly #size: number;
  readonly #salt = randomBytes(8);
  readonly #firstSalt = this.#salt.readUInt32LE(0);
  readonly #stepSalt = this.#salt.readUInt32LE(4);

  constructor(expectedChunks: number) {
    this.#size = Math.min(MOST_BITS, Math.max(1024, expectedChunks * BITS_A_CHUNK));
    this.#bits = new Uint8Array(Math.ceil(this.#size / 8));
  }

  /** `hash`: the SHA-256 of a chunk. */
  add(hash: Uint8Array): void {
    const step = this.#stepOf(hash);
    for (let bit = this.#firstOf(hash), left = PROBES; left > 0; bit = this.#after(bit, step), left--)
      this.#bits[bit >>> 3] = (this.#bits[bit >>> 3] as number) | (1 << (bit & 7));
  }

  has(hash: Uint8Array): boolean {
    const step = this.#stepOf(hash);
    for (let bit = this.#firstOf(hash), left = PROBES; left > 0; bit = this.#after(bit, step), left--)
      if (((this.#bits[bit >>> 3] as number) & (1 << (bit & 7))) === 0) return false;
    return true;
  }

  #firstOf(hash: Uint8Array): number {
    return (numberAt(hash, 0) + this.#firstSalt) % this.#size;
  }

  #stepOf(hash: Uint8Array): number {
    return (numberAt(hash, 6) + this.#stepSalt) % this.#size;
  }

  /** A sum instead of a product: no division for each probe. */
  #after(bit: number, step: number): number {
    const next = bit + step;
    return next >= this.#size ? next - this.#size : next;
  }
}

/** 48 bits. */
function numberAt(hash: Uint8Array, at: number): number {
  const low = (hash[at] as number) | ((hash[at + 1] as number) << 8) | ((hash[at + 2] as number) << 16);
  const high = (hash[at + 3] as number) | ((hash[at + 4] as number) << 8) | ((hash[at + 5] as number) << 16);
  return high * 0x1000000 + low;
}
