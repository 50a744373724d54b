// Packs that must not be written anew: a damaged chunk holds its pack until a push heals it.
import type { Database } from '../../storage/database.ts';

const PACKS_A_QUERY = 500;

/** Which of the packs have a damaged chunk. */
export async function damagedPacks(database: Database, ids: readonly number[]): Promise<Set<number>> {
  const damaged = new Set<number>();
  for (let from = 0; from < ids.length; from += PACKS_A_QUERY) {
    const rows = await database.read
      .selectFrom('chunk')
      .select('pack_id')
      .distinct()
      .where('pack_id', 'in', ids.slice(from, from + PACKS_A_QUERY))
      .where('damaged_at', 'is not', null)
      .execute();
    for (const row of rows) damaged.add(row.pack_id);
  }
  return damaged;
}
