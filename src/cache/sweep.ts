// Takes away what a killed server left: packs that no transaction named, and uploads whose narinfo never came.
// Only the server that owns the storage may call this, before it accepts the first upload.
import type { Database } from '../storage/database.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import { PACK_PREFIX } from './pack-writer.ts';

export interface SweepResult {
  readonly packs: number;
  readonly uploads: number;
}

export async function sweep(database: Database, blobs: BlobStore, now = Date.now()): Promise<SweepResult> {
  return { packs: await sweepPacks(database, blobs), uploads: await sweepUploads(database, now) };
}

async function sweepPacks(database: Database, blobs: BlobStore): Promise<number> {
  const rows = await database.read.selectFrom('pack').select('blob_key').execute();
  const named = new Set(rows.map((row) => row.blob_key));
  let removed = 0;
  for await (const { key } of blobs.list(PACK_PREFIX)) {
    if (named.has(key)) continue;
    await blobs.delete(key);
    removed++;
  }
  return removed;
}

/** The chunks of an expired upload stay: another upload of the same bytes finds them. */
async function sweepUploads(database: Database, now: number): Promise<number> {
  const { numDeletedRows } = await database.write(
    async (transaction) =>
      await transaction.deleteFrom('nar_upload').where('expires_at', '<', now).executeTakeFirst(),
  );
  return Number(numDeletedRows);
}
