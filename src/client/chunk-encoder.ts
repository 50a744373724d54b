// Makes frames of the chunks that the cache lacks, a window at a time: one question for all of its chunks, then only what
// is missing is compressed, neighbours together, on libuv's pool. Windows may overlap; each chunk is asked for and
// compressed once.
import { chunkGroups, encodeGroup, type ChunkFrame } from '../content/chunk-frames.ts';
import type { PatchedChunk } from '../content/chunk-patcher.ts';
import type { Effort } from '../content/frame-codec.ts';
import type { SlabChunk } from '../content/slab-cutter.ts';
import { mapBounded } from '../util/concurrency.ts';
import type { SlipwayCache } from './slipway-cache.ts';

const CODERS = 4; // libuv's default pool size

/** What came of the chunks of a window that are to be sent. Others are held, or another window has them. */
export interface EncodedChunks {
  /** By the first chunk of each; the chunks of a frame follow each other in the window. */
  readonly frames: ReadonlyMap<PatchedChunk, ChunkFrame>;
  /** Those that can only be sent plain. */
  readonly unpatchable: ReadonlySet<PatchedChunk>;
}

export class ChunkEncoder {
  readonly #cache: SlipwayCache;
  readonly #signal: AbortSignal;
  readonly #effort: () => Effort;
  /** Names that were asked for: held, sent, or about to be sent. */
  readonly #seen = new Set<string>();

  /** `effort`: asked for each window. */
  constructor(cache: SlipwayCache, signal: AbortSignal, effort: () => Effort) {
    this.#cache = cache;
    this.#signal = signal;
    this.#effort = effort;
  }

  async encode(window: readonly SlabChunk<unknown>[]): Promise<EncodedChunks> {
    const wanted = await this.#findMissing(window);
    const groups = groupWanted(window, wanted);
    const effort = this.#effort();
    const encoded = await mapBounded(groups, CODERS, async (group) => await encodeGroup(group, effort));
    const frames = encoded.flat();
    const framed = new Set(frames.flatMap(({ chunks }) => chunks));
    return {
      frames: new Map(frames.map((frame) => [frame.chunks[0] as PatchedChunk, frame])),
      unpatchable: new Set([...wanted].filter((chunk) => !framed.has(chunk))),
    };
  }

  async #findMissing(window: readonly SlabChunk<unknown>[]): Promise<ReadonlySet<PatchedChunk>> {
    const fresh = window.filter(({ chunk }) => {
      const name = chunk.hash.toString('latin1');
      return this.#seen.has(name) ? false : this.#seen.add(name);
    });
    if (fresh.length === 0) return new Set();
    const missing = await this.#cache.findMissingChunks(
      fresh.map(({ chunk }) => chunk.hash),
      this.#signal,
    );
    return new Set(fresh.filter((_, n) => missing[n]).map(({ chunk }) => chunk));
  }
}

/** Neighbours of one stream share frames. */
function groupWanted(
  window: readonly SlabChunk<unknown>[],
  wanted: ReadonlySet<PatchedChunk>,
): readonly PatchedChunk[][] {
  const groups = chunkGroups();
  let before: unknown;
  for (const { stream, chunk } of window) {
    if (stream !== before || !wanted.has(chunk)) groups.part();
    if (wanted.has(chunk)) groups.add(chunk);
    before = stream;
  }
  return groups.groups;
}
