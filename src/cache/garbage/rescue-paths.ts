// Saves paths from garbage collection because somebody was told that they are here, or made something that needs them.
// What a rescued path references is rescued with it, in the same transaction: a path that is not tombstoned never
// reaches one that is about to be removed. plan-gc.ts says why that is enough.
import type { Transaction } from 'kysely';
import type { Schema } from '../../storage/schema.ts';

const HASHES_A_QUERY = 500;

/**
 * Takes the tombstones off the paths `hashes` of the cache and off all that they need, in it and in the cache that it
 * lies over. Returns which of `hashes` are there.
 */
export async function rescuePaths(
  transaction: Transaction<Schema>,
  cacheId: number,
  hashes: readonly string[],
  now: number,
): Promise<ReadonlySet<string>> {
  const cacheIds = await familyOf(transaction, cacheId);
  const present = new Set<string>();
  const seen = new Set(hashes);
  let frontier = [...seen];
  for (let first = true; frontier.length > 0; first = false) {
    const next: string[] = [];
    for (let from = 0; from < frontier.length; from += HASHES_A_QUERY) {
      const batch = frontier.slice(from, from + HASHES_A_QUERY);
      const found = await rescueBatch(transaction, cacheIds, batch, now);
      if (first) for (const hash of found.present) present.add(hash);
      next.push(...found.references.filter((hash) => !seen.has(hash)));
      for (const hash of found.references) seen.add(hash);
    }
    frontier = [...new Set(next)];
  }
  return present;
}

async function familyOf(transaction: Transaction<Schema>, cacheId: number): Promise<number[]> {
  const row = await transaction
    .selectFrom('cache')
    .select('base_id')
    .where('id', '=', cacheId)
    .executeTakeFirst();
  const base = row?.base_id ?? undefined;
  return base === undefined ? [cacheId] : [cacheId, base];
}

interface RescuedBatch {
  readonly present: readonly string[];
  /** Hashes that the rescued paths reference. What was not tombstoned needs no rescue, and neither does its closure. */
  readonly references: readonly string[];
}

async function rescueBatch(
  transaction: Transaction<Schema>,
  cacheIds: readonly number[],
  hashes: readonly string[],
  now: number,
): Promise<RescuedBatch> {
  const rows = await transaction
    .selectFrom('store_path')
    .select(['cache_id', 'hash', 'path_references', 'tombstoned_at'])
    .where('cache_id', 'in', cacheIds)
    .where('hash', 'in', hashes)
    .execute();
  const dead = rows.filter((row) => row.tombstoned_at !== null);
  if (dead.length > 0)
    await transaction
      .updateTable('store_path')
      .set({ tombstoned_at: null, last_access_at: now })
      .where('cache_id', 'in', cacheIds)
      .where(
        'hash',
        'in',
        dead.map((row) => row.hash),
      )
      .where('tombstoned_at', 'is not', null)
      .execute();
  return {
    present: rows.map((row) => row.hash),
    references: dead.flatMap((row) => referenceHashes(row.path_references)),
  };
}

/** The hash parts of a `path_references` column, whose base names were parsed when they were stored. */
export function referenceHashes(references: string): string[] {
  return references === '' ? [] : references.split(' ').map((baseName) => baseName.slice(0, 32));
}
