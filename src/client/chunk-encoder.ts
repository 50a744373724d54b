// Makes frames of the chunks that the cache lacks, a window at a time: one question for all of its chunks, then only what
// is missing is compressed, on libuv's pool. Windows may overlap; each chunk is asked for and compressed once.
import { encodeChunk, type PatchedChunk } from '../content/chunk-patcher.ts';
import { mapBounded } from '../util/concurrency.ts';
import type { SlipwayCache } from './slipway-cache.ts';

const CODERS = 4; // libuv's default pool size

/** What came of a chunk: its frame, or that it can only be sent plain. Absent: another window has it, or the cache. */
export type Frames = ReadonlyMap<PatchedChunk, Buffer | 'plain'>;

export class ChunkEncoder {
  readonly #cache: SlipwayCache;
  readonly #signal: AbortSignal;
  /** Names that were asked for: held, sent, or about to be sent. */
  readonly #seen = new Set<string>();

  constructor(cache: SlipwayCache, signal: AbortSignal) {
    this.#cache = cache;
    this.#signal = signal;
  }

  async encode(chunks: readonly PatchedChunk[]): Promise<Frames> {
    const fresh = chunks.filter(({ hash }) => {
      const name = hash.toString('latin1');
      return this.#seen.has(name) ? false : this.#seen.add(name);
    });
    if (fresh.length === 0) return new Map();
    const missing = await this.#cache.findMissingChunks(
      fresh.map(({ hash }) => hash),
      this.#signal,
    );
    const wanted = fresh.filter((_, n) => missing[n]);
    const frames = await mapBounded(wanted, CODERS, encodeChunk);
    return new Map(wanted.map((chunk, n) => [chunk, frames[n] ?? 'plain']));
  }
}
