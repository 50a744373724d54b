// Packs on their way out. A retired pack is still there, for readers that were at it, and an upload that shared it may
// still name it: then it stays. Before its bytes go it is marked as going, and from then on nobody can: not even long
// after, because its name is remembered for longer than any upload takes.
import type { Transaction } from 'kysely';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import type { RewriteParts } from './rewrite-packs.ts';

/** `retired_at` of a pack whose bytes may be gone already. */
const GOING = 0;
/** Of one whose bytes are gone. */
const GONE = -1;
/** No upload ends later than this after its first byte was stored (pack-pool.ts sees to it). */
export const LONGEST_UPLOAD_MS = 48 * 3600 * 1000;
const REMEMBERED_MS = 2 * LONGEST_UPLOAD_MS;

/** Removes the blobs of packs that were retired at `before` or earlier. */
export async function removeRetired(
  parts: RewriteParts,
  { before, now, progress }: RemoveOptions,
): Promise<{ readonly packs: number; readonly bytes: number }> {
  const rows = await parts.database.read
    .selectFrom('pack')
    .select(['id', 'blob_key', 'size'])
    .where('retired_at', '>=', GOING)
    .where('retired_at', '<=', before)
    .execute();
  let [packs, bytes] = [0, 0];
  for (const row of rows) {
    await progress?.();
    if (!(await changeMark(parts, row.id, { from: before, to: GOING }))) continue; // an upload named it meanwhile
    // The blob first: a crash in between leaves a row that the next collection finds again.
    await parts.blobs.delete(row.blob_key);
    await changeMark(parts, row.id, { from: GOING, to: GONE });
    packs++;
    bytes += row.size;
  }
  await parts.database.write(
    async (transaction) =>
      await transaction
        .deleteFrom('pack')
        .where('retired_at', '=', GONE)
        .where('created_at', '<=', now - REMEMBERED_MS)
        .execute(),
  );
  return { packs, bytes };
}

/** Whether removeRetired would find work. */
export async function anyRetired({ read }: Database, before: number): Promise<boolean> {
  const row = await read
    .selectFrom('pack')
    .select('id')
    .where('retired_at', '>=', GOING)
    .where('retired_at', '<=', before)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

export interface RemoveOptions {
  readonly before: number;
  readonly now: number;
  readonly progress?: () => Promise<void>;
}

/** Whether the pack was retired at `from` or earlier, and so was marked. */
async function changeMark(
  { database }: RewriteParts,
  id: number,
  { from, to }: { readonly from: number; readonly to: number },
): Promise<boolean> {
  const { numUpdatedRows } = await database.write(
    async (transaction) =>
      await transaction
        .updateTable('pack')
        .set({ retired_at: to, ...(to === GONE && { size: 0 }) })
        .where('id', '=', id)
        .where('retired_at', '<=', from)
        .executeTakeFirst(),
  );
  return numUpdatedRows > 0n;
}

/** Names packs that nobody names as going: whoever was about to commit one of them fails instead of losing its bytes. */
export async function markGoing(
  transaction: Transaction<Schema>,
  packs: readonly { readonly key: string; readonly size: number }[],
  now: number,
): Promise<void> {
  for (const { key, size } of packs)
    await transaction
      .insertInto('pack')
      .values({ blob_key: key, size, created_at: now, retired_at: GOING })
      .onConflict((conflict) => conflict.column('blob_key').doNothing())
      .execute();
}

/** Whether a pack's bytes may go, or have gone. */
export function isGoing(pack: { readonly retired_at: number | null } | undefined): boolean {
  return pack?.retired_at === GOING;
}

/** Takes a retired pack back into use; false when its bytes may be gone. */
export async function revivePack(transaction: Transaction<Schema>, id: number): Promise<boolean> {
  const revived = await transaction
    .updateTable('pack')
    .set({ retired_at: null })
    .where('id', '=', id)
    .where('retired_at', '>', GOING)
    .executeTakeFirst();
  return revived.numUpdatedRows > 0n;
}
