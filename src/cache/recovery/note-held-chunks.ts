// Which chunks the paths of a cache are made of, noted anew from their recipes: without it, everybody who pushes in chunks
// after a rebuild would send once more what is here. Whoever may read a path may know of its chunks, however it came.
import type { Database } from '../../storage/database.ts';
import { parseRecipe } from '../../content/recipe.ts';
import { noteChunks } from '../ingest/held-chunks.ts';

const CONTENTS_A_WRITE = 50;

export async function noteHeldChunks(database: Database): Promise<void> {
  for (let after = 0; ;) {
    const rows = await database.read
      .selectFrom('content')
      .select(['id', 'recipe'])
      .where('id', '>', after)
      .where('damaged_at', 'is', null)
      .orderBy('id')
      .limit(CONTENTS_A_WRITE)
      .execute();
    const last = rows.at(-1);
    if (last === undefined) return;
    const caches = await cachesOf(database, after, last.id);
    await database.write(async (transaction) => {
      for (const { id, recipe } of rows) {
        const hashes = parseRecipe(recipe).chunks.map(({ hash }) => hash);
        for (const cacheId of caches.get(id) ?? [])
          await noteChunks(transaction, { cacheId, readable: [], writer: '' }, hashes);
      }
    });
    after = last.id;
  }
}

/** By content, those after the first id up to the last. */
async function cachesOf(
  { read }: Database,
  after: number,
  last: number,
): Promise<ReadonlyMap<number, Set<number>>> {
  const rows = await read
    .selectFrom('store_path')
    .select(['content_id', 'cache_id'])
    .where('content_id', '>', after)
    .where('content_id', '<=', last)
    .where('quarantined_at', 'is', null)
    .execute();
  const grouped = Map.groupBy(rows, (row) => row.content_id);
  return new Map([...grouped].map(([id, group]) => [id, new Set(group.map((row) => row.cache_id))]));
}
