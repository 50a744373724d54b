// What a content is made of: its recipe, resolved against the chunk table, as pieces of frames. Kept in memory for hot
// contents. About 100 bytes a frame: 2 MB for a NAR of 10 GB.
import { LRUCache } from 'lru-cache';
import type { Database } from '../storage/database.ts';
import { parseRecipe } from '../content/recipe.ts';
import { findPieces, storedLengthOf, type Piece } from './served-pieces.ts';

const CACHE_BYTES = 32 * 1024 * 1024;
const BYTES_A_PIECE = 100;
const BYTES_A_LITERAL = 150; // a view on the recipe, and its part of it

export interface ContentLayout {
  readonly contentId: number;
  /** SHA-256 of the content. */
  readonly hash: Uint8Array;
  /** In order; filled in, they concatenate to a zstd stream of the content. */
  readonly pieces: readonly Piece[];
  /** Where each piece starts in that zstd stream, and its end. */
  readonly storedOffsets: Float64Array;
  /** Where each piece's bytes start in the content, and the content's end. */
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
    const pieces = await findPieces(this.#database.read, recipe);
    if (pieces === undefined) return undefined;
    return {
      contentId,
      hash: recipe.hash,
      pieces,
      storedOffsets: runningSum(pieces.map(storedLengthOf)),
      rawOffsets: runningSum(pieces.map(({ start, end }) => end - start)),
    };
  }
}

function sizeOf({ pieces }: ContentLayout): number {
  const literals = pieces.reduce((sum, { patches }) => sum + patches.length, 0);
  return 200 + pieces.length * BYTES_A_PIECE + literals * BYTES_A_LITERAL;
}

function runningSum(lengths: readonly number[]): Float64Array {
  const sums = new Float64Array(lengths.length + 1);
  lengths.forEach((length, index) => (sums[index + 1] = (sums[index] ?? 0) + length));
  return sums;
}
