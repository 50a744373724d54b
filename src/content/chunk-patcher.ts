// Brings chunks and what the normaliser took out together: which places a chunk has, what belongs there, and whether it
// is better stored as it was.
import { patchedChunkHash, plainChunkHash } from './chunk-identity.ts';
import type { Taken } from './normaliser.ts';
import { MOST_PLACES, SHORTEST_PLACE } from './patched-frame.ts';
import type { Patch } from './recipe.ts';

/** Places that make up more of a chunk than this leave nothing worth sharing. */
const LARGEST_SHARE = 1 / 3;

export interface PatchedChunk {
  readonly hash: Buffer;
  /** With filler where a patch belongs. */
  readonly bytes: Buffer;
  readonly patches: readonly Patch[];
}

/** Chunks come in order and cover the stream; so does what was taken. */
export class ChunkPatcher {
  #taken: Taken[] = [];
  #next = 0; // of #taken
  #offset = 0; // of the next chunk

  add(taken: readonly Taken[]): void {
    this.#taken = [...this.#taken.slice(this.#next), ...taken];
    this.#next = 0;
  }

  /** The chunk that follows. `bytes` is the caller's no more: what is too short or too dense is put back into it. */
  patch(bytes: Buffer): PatchedChunk {
    const patches = this.#cut(bytes);
    const filled = patches.reduce((sum, { literal }) => sum + literal.length, 0);
    const worthwhile = patches.length <= MOST_PLACES && filled <= bytes.length * LARGEST_SHARE;
    if (patches.length === 0 || !worthwhile) return plain({ bytes, patches });
    const places = patches.map(({ offset, literal }) => ({ offset, length: literal.length }));
    return { hash: patchedChunkHash(bytes, places), bytes, patches };
  }

  /** The patches of the chunk; one that a cut has divided is two. */
  #cut(bytes: Buffer): Patch[] {
    const start = this.#offset;
    const end = start + bytes.length;
    this.#offset = end;
    const patches: Patch[] = [];
    for (; this.#next < this.#taken.length; this.#next++) {
      const taken = this.#taken[this.#next] as Taken;
      if (taken.offset >= end) break;
      const here = taken.bytes.subarray(0, end - taken.offset);
      const offset = taken.offset - start;
      if (here.length < SHORTEST_PLACE) here.copy(bytes, offset);
      else patches.push({ offset, literal: here });
      if (here.length === taken.bytes.length) continue;
      this.#taken[this.#next] = { offset: end, bytes: taken.bytes.subarray(here.length) };
      break;
    }
    return patches;
  }
}

/** The chunk as it was before anything was taken out. */
export function plain({ bytes, patches }: Pick<PatchedChunk, 'bytes' | 'patches'>): PatchedChunk {
  const restored = patches.length === 0 ? bytes : Buffer.from(bytes);
  for (const { offset, literal } of patches) literal.copy(restored, offset);
  return { hash: plainChunkHash(restored), bytes: restored, patches: [] };
}
