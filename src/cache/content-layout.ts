// Where the frames of a content lie: the recipe, resolved against the chunk table. Kept in memory for hot contents.
// About 40 bytes a chunk: 3 MB for a NAR of 10 GB.
import { LRUCache } from 'lru-cache';
import type { Database } from '../storage/database.ts';
import { parseRecipe } from '../content/recipe.ts';

const CACHE_BYTES = 32 * 1024 * 1024;
const QUERY_CHUNKS = 500;
const BYTES_A_FRAME = 40;
const BYTES_A_LITERAL = 150; // a view on the recipe, and its part of it

export interface Frame {
  readonly blobKey: string;
  readonly offset: number;
  readonly length: number;
  readonly crc: number;
  readonly rawLength: number;
  /** What is to be filled in before the frame is sent, see patched-frame.ts. */
  readonly literals?: readonly Buffer[];
}

export interface ContentLayout {
  readonly contentId: number;
  /** SHA-256 of the content. */
  readonly hash: Uint8Array;
  /** In order; filled in, they concatenate to a zstd stream of the content. */
  readonly frames: readonly Frame[];
  /** Where each frame starts in that zstd stream, and its end. */
  readonly storedOffsets: Float64Array;
  /** Where each frame's bytes start in the content, and the content's end. */
  readonly rawOffsets: Float64Array;
}

export class ContentLayouts {
  readonly #database: Database;
  readonly #cache = new LRUCache<number, ContentLayout>({
    maxSize: CACHE_BYTES,
    sizeCalculation: sizeOf,
  });

  constructor(database: Database) {
    this.#database = database;
  }

  /** `undefined` when the content is unknown or damaged, or a chunk of it is. */
  async find(contentId: number): Promise<ContentLayout | undefined> {
    const known = this.#cache.get(contentId);
    if (known) return known;
    const layout = await this.#resolve(contentId);
    if (layout) this.#cache.set(contentId, layout);
    return layout;
  }

  /** Forgets every layout: frames have moved or were found damaged. */
  forget(): void {
    this.#cache.clear();
  }

  /** Reads the layout anew: another process may have moved frames. */
  async refresh(contentId: number): Promise<ContentLayout | undefined> {
    this.#cache.delete(contentId);
    return await this.find(contentId);
  }

  async #resolve(contentId: number): Promise<ContentLayout | undefined> {
    const row = await this.#database.read
      .selectFrom('content')
      .select('recipe')
      .where('id', '=', contentId)
      .where('damaged_at', 'is', null)
      .executeTakeFirst();
    if (row === undefined) return undefined;
    const recipe = parseRecipe(row.recipe);
    const frames: Frame[] = [];
    for (let from = 0; from < recipe.chunks.length; from += QUERY_CHUNKS) {
      const chunks = recipe.chunks.slice(from, from + QUERY_CHUNKS);
      const found = await this.#findFrames(chunks.map(({ hash }) => hash));
      for (const { hash, patches } of chunks) {
        const frame = found.get(keyOf(hash));
        if (frame === undefined) return undefined;
        frames.push(
          patches === undefined ? frame : { ...frame, literals: patches.map(({ literal }) => literal) },
        );
      }
    }
    return {
      contentId,
      hash: recipe.hash,
      frames,
      storedOffsets: runningSum(frames.map(({ length }) => length)),
      rawOffsets: runningSum(frames.map(({ rawLength }) => rawLength)),
    };
  }

  async #findFrames(hashes: readonly Uint8Array[]): Promise<Map<string, Frame>> {
    const rows = await this.#database.read
      .selectFrom('chunk')
      .innerJoin('pack', 'pack.id', 'chunk.pack_id')
      .selectAll('chunk')
      .select('pack.blob_key')
      .where('chunk.hash', 'in', hashes)
      .where('chunk.damaged_at', 'is', null)
      .execute();
    return new Map(
      rows.map((row) => [
        keyOf(row.hash),
        {
          blobKey: row.blob_key,
          offset: row.frame_offset,
          length: row.frame_length,
          crc: row.frame_crc,
          rawLength: row.raw_length,
        },
      ]),
    );
  }
}

function sizeOf(layout: ContentLayout): number {
  const literals = layout.frames.reduce((sum, frame) => sum + (frame.literals?.length ?? 0), 0);
  return 200 + layout.frames.length * BYTES_A_FRAME + literals * BYTES_A_LITERAL;
}

function keyOf(hash: Uint8Array): string {
  return Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString('latin1');
}

function runningSum(lengths: readonly number[]): Float64Array {
  const sums = new Float64Array(lengths.length + 1);
  lengths.forEach((length, index) => (sums[index + 1] = (sums[index] ?? 0) + length));
  return sums;
}
