// Takes away what a killed server left: packs that no transaction named, and uploads whose narinfo never came.
// To be called before the first upload is accepted.
import type { Database } from '../../storage/database.ts';
import type { BlobEntry, BlobStore } from '../../storage/blob-store.ts';
import { PACK_PREFIX } from '../ingest/pack-writer.ts';
import { isGoing, LONGEST_UPLOAD_MS, markGoing } from './retired-packs.ts';

const PACKS_A_WRITE = 200;

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
  const unnamed: BlobEntry[] = [];
  for await (const blob of blobs.list(PACK_PREFIX))
    if (!named.has(blob.key) && (!shared || blob.modifiedAt < now - LONGEST_UPLOAD_MS)) unnamed.push(blob);
  // A collection by hand may be about to name one of them: it fails then. Their rows go with the next collection.
  for (let from = 0; from < unnamed.length; from += PACKS_A_WRITE) {
    const batch = unnamed.slice(from, from + PACKS_A_WRITE);
    await database.write(async (transaction) => await markGoing(transaction, batch, now));
    if (!shared) for (const { key } of batch) await deleteUnlessNamed({ database, blobs }, key);
  }
  return unnamed.length;
}

/** It was named between the look and the mark: then it is not garbage. */
async function deleteUnlessNamed(
  { database, blobs }: { readonly database: Database; readonly blobs: BlobStore },
  key: string,
): Promise<void> {
  const row = await database.read
    .selectFrom('pack')
    .select('retired_at')
    .where('blob_key', '=', key)
    .executeTakeFirst();
  if (isGoing(row)) await blobs.delete(key);
}

/** The chunks of an expired upload stay: another upload of the same bytes finds them. */
async function sweepUploads(database: Database, now: number): Promise<number> {
  const { numDeletedRows } = await database.write(
    async (transaction) =>
      await transaction.deleteFrom('nar_upload').where('expires_at', '<', now).executeTakeFirst(),
  );
  return Number(numDeletedRows);
}
