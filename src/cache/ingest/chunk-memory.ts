// Memory that the frames of one batch are decoded into, used again for later batches: buffers of their own would make as
// much garbage as is uploaded.
import { FRAME_BYTES } from '../../content/frame-codec.ts';

const SLAB_BYTES = 4 * 1024 * 1024;
/** Kept between uploads. */
const MOST_SPARE = 4;

const spare: Buffer[] = [];

export class ChunkMemory {
  readonly #slabs: Buffer[] = [];
  #free: Buffer = Buffer.alloc(0);

  /** `length` bytes, at most those of a frame, that are the caller's until `release()`. */
  take(length: number): Buffer {
    if (length > FRAME_BYTES) throw new RangeError(`a frame of ${length} bytes`);
    if (length > this.#free.length) {
      const slab = spare.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES);
      this.#slabs.push(slab);
      this.#free = slab;
    }
    const taken = this.#free.subarray(0, length);
    this.#free = this.#free.subarray(length);
    return taken;
  }

  /** Nobody reads or writes what was taken any more. Memory that is not released is left to the collector. */
  release(): void {
    for (const slab of this.#slabs.splice(0)) if (spare.length < MOST_SPARE) spare.push(slab);
    this.#free = Buffer.alloc(0);
  }
}
