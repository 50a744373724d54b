// Does what plan-gc.ts decided, in small transactions. Each statement asks again for what the plan relied on, so that
// whatever was used, pushed or saved since then stays; a crash between two of them leaves a state like any other.
import { setImmediate as pause } from 'node:timers/promises';
import type { Transaction } from 'kysely';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import type { GcPlan, RowName } from './plan-gc.ts';

const ROWS_A_WRITE = 200;

export interface PlanTimes {
  /** When the facts of the plan began to be read. */
  readonly now: number;
  /** Tombstones of this time or before have expired. */
  readonly expiredAt: number;
}

/** Returns how many paths were really removed. `progress` is called between transactions and may throw to stop. */
export async function applyPathPlan(
  database: Database,
  plan: GcPlan,
  times: PlanTimes,
  progress: () => Promise<void>,
): Promise<number> {
  await inBatches(plan.revive, async (cacheId, hashes) => {
    await progress();
    await database.write(
      async (transaction) =>
        await transaction
          .updateTable('store_path')
          .set({ tombstoned_at: null })
          .where('cache_id', '=', cacheId)
          .where('hash', 'in', hashes)
          .execute(),
    );
  });
  await inBatches(plan.tombstone, async (cacheId, hashes) => {
    await progress();
    await database.write(
      async (transaction) =>
        await transaction
          .updateTable('store_path')
          .set({ tombstoned_at: times.now })
          .where('cache_id', '=', cacheId)
          .where('hash', 'in', hashes)
          .where('tombstoned_at', 'is', null)
          .where('last_access_at', '<=', times.now)
          .where('created_at', '<=', times.now)
          .execute(),
    );
  });
  let removed = 0;
  await inBatches(plan.remove, async (cacheId, hashes) => {
    await progress();
    removed += await database.write(
      async (transaction) => await removePaths(transaction, { cacheId, hashes }, times.expiredAt),
    );
  });
  return removed;
}

async function removePaths(
  transaction: Transaction<Schema>,
  { cacheId, hashes }: { readonly cacheId: number; readonly hashes: readonly string[] },
  expiredAt: number,
): Promise<number> {
  const gone = await transaction
    .deleteFrom('store_path')
    .where('cache_id', '=', cacheId)
    .where('hash', 'in', hashes)
    .where('tombstoned_at', 'is not', null)
    .where('tombstoned_at', '<=', expiredAt)
    .returning('hash')
    .execute();
  if (gone.length > 0)
    await transaction
      .deleteFrom('side_file')
      .where('cache_id', '=', cacheId)
      .where(
        'name',
        'in',
        gone.map(({ hash }) => `${hash}.ls`),
      )
      .execute();
  return gone.length;
}

/** Neighbours of one cache go together; the order stays. */
async function inBatches(
  rows: readonly RowName[],
  work: (cacheId: number, hashes: readonly string[]) => Promise<void>,
): Promise<void> {
  for (let from = 0; from < rows.length;) {
    const cacheId = rows[from]?.cacheId ?? 0;
    let to = from;
    while (to < rows.length && to - from < ROWS_A_WRITE && rows[to]?.cacheId === cacheId) to++;
    await work(
      cacheId,
      rows.slice(from, to).map(({ hash }) => hash),
    );
    from = to;
    await pause();
  }
}
