// Memory for the frames of an upload, as they come and decoded, used again for later ones: buffers of their own would make
// several times as much garbage as is uploaded.

const SLAB_BYTES = 4 * 1024 * 1024;
/** Kept between uploads. */
const MOST_SPARE = 6;

const spare: Buffer[] = [];

export class ChunkMemory {
  readonly #slabs: Buffer[] = [];
  #free: Buffer = Buffer.alloc(0);

  /** `length` bytes, far fewer than a slab has, that are the caller's until `release()`. */
  take(length: number): Buffer {
    if (length > SLAB_BYTES) throw new RangeError(`a frame of ${length} bytes`);
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
