// Which of many paths are not here: one query for some hundred of them. Being asked for counts as use, because
// whoever is told that a path is here will not send it.
import type { Database } from '../storage/database.ts';
import type { AccessTimes } from './access-times.ts';
import type { Cache } from './cache-registry.ts';
import { rescuePaths } from './garbage/rescue-paths.ts';

const HASHES_A_QUERY = 500;

/** The hashes, each once, that none of the caches holds whole. */
export async function findMissingPaths(
  parts: { readonly database: Database; readonly access: AccessTimes },
  caches: readonly Cache[],
  hashes: readonly string[],
): Promise<string[]> {
  const missing = new Set(hashes);
  const wanted = [...missing];
  for (let from = 0; from < wanted.length; from += HASHES_A_QUERY) {
    const rows = await parts.database.read
      .selectFrom('store_path')
      .innerJoin('content', 'content.id', 'store_path.content_id')
      .select(['store_path.hash', 'store_path.cache_id', 'store_path.tombstoned_at'])
      .where(
        'store_path.cache_id',
        'in',
        caches.map(({ id }) => id),
      )
      .where('store_path.hash', 'in', wanted.slice(from, from + HASHES_A_QUERY))
      .where('store_path.quarantined_at', 'is', null)
      .where('content.damaged_at', 'is', null)
      .execute();
    const kept = await rescueDying(parts.database, rows);
    for (const row of kept) {
      missing.delete(row.hash);
      parts.access.touch(row.cache_id, row.hash);
    }
  }
  return [...missing];
}

interface FoundPath {
  readonly hash: string;
  readonly cache_id: number;
  readonly tombstoned_at: number | null;
}

/** Whoever is told that a path is here may count on it: what was about to be collected stays, or is gone already. */
async function rescueDying(database: Database, rows: readonly FoundPath[]): Promise<FoundPath[]> {
  const dying = rows.filter((row) => row.tombstoned_at !== null);
  if (dying.length === 0) return [...rows];
  const saved = new Set<string>();
  await database.write(async (transaction) => {
    for (const id of new Set(dying.map((row) => row.cache_id))) {
      const hashes = dying.filter((row) => row.cache_id === id).map((row) => row.hash);
      const present = await rescuePaths(transaction, id, hashes, Date.now());
      for (const hash of present) saved.add(`${id}/${hash}`);
    }
  });
  return rows.filter((row) => row.tombstoned_at === null || saved.has(`${row.cache_id}/${row.hash}`));
}
