// Which chunks some content uses, in two bytes a chunk: a Bloom filter. It may say "used" of a chunk that is not, about
// one time in two thousand, and never the other way round: garbage may stay a while, nothing needed ever goes.
// Each filter has a salt of its own, so that the next collection errs about other chunks.
import { randomBytes } from 'node:crypto';

const BITS_A_CHUNK = 16;
const PROBES = 8;

export class ChunkFilter {
  readonly #bits: Uint8Array;
  readonly #size: number;
  readonly #salt: Buffer = randomBytes(8);

  constructor(expectedChunks: number) {
    this.#size = Math.max(1024, expectedChunks * BITS_A_CHUNK);
    this.#bits = new Uint8Array(Math.ceil(this.#size / 8));
  }

  /** `hash`: the SHA-256 of a chunk. */
  add(hash: Uint8Array): void {
    for (const bit of this.#probes(hash))
      this.#bits[bit >> 3] = (this.#bits[bit >> 3] ?? 0) | (1 << (bit & 7));
  }

  has(hash: Uint8Array): boolean {
    return this.#probes(hash).every((bit) => ((this.#bits[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0);
  }

  #probes(hash: Uint8Array): number[] {
    const view = Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength);
    const first = view.readUIntLE(0, 6) + this.#salt.readUInt32LE(0);
    const step = view.readUIntLE(6, 6) + this.#salt.readUInt32LE(4);
    return Array.from({ length: PROBES }, (_, probe) => (first + probe * step) % this.#size);
  }
}
