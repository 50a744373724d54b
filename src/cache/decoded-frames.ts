// Frames of which contents need a part, decoded: one that is needed for several parts, or by several readers, is decoded once.
import { LRUCache } from 'lru-cache';
import type { StoredFrame } from './stored-chunks.ts';

/** 32 frames of the largest kind. */
const CACHE_BYTES = 16 * 1024 * 1024;

export class DecodedFrames {
  readonly #cache = new LRUCache<string, Buffer>({
    maxSize: CACHE_BYTES,
    sizeCalculation: ({ length }) => Math.max(1, length),
  });

  /** What the frame decodes to; not to be changed. Packs never change, so what is here is never outdated. */
  async get(frame: StoredFrame, decode: () => Promise<Buffer>): Promise<Buffer> {
    const key = `${frame.blobKey} ${frame.offset}`;
    const known = this.#cache.get(key);
    if (known !== undefined) return known;
    const decoded = await decode();
    this.#cache.set(key, decoded);
    return decoded;
  }
}
