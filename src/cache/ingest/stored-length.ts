// How long the zstd stream of a content is: the frames of its chunks, each as often as the recipe names it.
import type { Kysely } from 'kysely';
import type { Schema } from '../../storage/schema.ts';
import { parseRecipe } from '../../content/recipe.ts';
import { absentChunk, chunkKey } from './held-chunks.ts';

const HASHES_A_QUERY = 500;

export async function storedLength(db: Kysely<Schema>, recipe: Uint8Array): Promise<number> {
  const { chunks } = parseRecipe(recipe);
  const unique = [...new Map(chunks.map(({ hash }) => [chunkKey(hash), hash])).values()];
  const lengths = new Map<string, number>();
  for (let from = 0; from < unique.length; from += HASHES_A_QUERY) {
    const rows = await db
      .selectFrom('chunk')
      .select(['hash', 'frame_length'])
      .where('hash', 'in', unique.slice(from, from + HASHES_A_QUERY))
      .execute();
    for (const row of rows) lengths.set(chunkKey(row.hash), row.frame_length);
  }
  let sum = 0;
  for (const { hash } of chunks) {
    const length = lengths.get(chunkKey(hash));
    if (length === undefined) throw absentChunk();
    sum += length;
  }
  return sum;
}
