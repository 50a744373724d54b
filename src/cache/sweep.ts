// Takes away what a killed server left: packs that no transaction named, and uploads whose narinfo never came.
// To be called before the first upload is accepted.
import type { Database } from '../storage/database.ts';
import type { BlobEntry, BlobStore } from '../storage/blob-store.ts';
import { PACK_PREFIX } from './pack-writer.ts';

/** A pack that is older and named by nobody belongs to an upload that was cut off. */
const LONGEST_UPLOAD_MS = 48 * 3600 * 1000;

export interface SweepResult {
  readonly packs: number;
  readonly uploads: number;
}

/**
 * `shared`: other servers may be writing to the same blobs, so only what is older than any upload is touched, and in a
 * way that fails the commit of an upload that comes later still. Otherwise the caller is the only one.
 */
export async function sweep(
  database: Database,
  blobs: BlobStore,
  { shared = false, now = Date.now() } = {},
): Promise<SweepResult> {
  return {
    packs: await sweepPacks(database, blobs, { shared, now }),
    uploads: await sweepUploads(database, now),
  };
}

async function sweepPacks(
  database: Database,
  blobs: BlobStore,
  { shared, now }: { readonly shared: boolean; readonly now: number },
): Promise<number> {
  const rows = await database.read.selectFrom('pack').select('blob_key').execute();
  const named = new Set(rows.map((row) => row.blob_key));
  let removed = 0;
  for await (const blob of blobs.list(PACK_PREFIX)) {
    if (named.has(blob.key)) continue;
    if (!shared) await blobs.delete(blob.key);
    else if (blob.modifiedAt < now - LONGEST_UPLOAD_MS) await retire(database, blob, now);
    else continue;
    removed++;
  }
  return removed;
}

/** Names the pack as retired: whoever would commit it now fails, and garbage collection removes it. */
async function retire(database: Database, { key, size }: BlobEntry, now: number): Promise<void> {
  await database.write(
    async (transaction) =>
      await transaction
        .insertInto('pack')
        .values({ blob_key: key, size, created_at: now, retired_at: now })
        .onConflict((conflict) => conflict.column('blob_key').doNothing())
        .execute(),
  );
}

/** The chunks of an expired upload stay: another upload of the same bytes finds them. */
async function sweepUploads(database: Database, now: number): Promise<number> {
  const { numDeletedRows } = await database.write(
    async (transaction) =>
      await transaction.deleteFrom('nar_upload').where('expires_at', '<', now).executeTakeFirst(),
  );
  return Number(numDeletedRows);
}
