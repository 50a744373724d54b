// Compares what the database says with what is stored. Damage means absent: with `repair` the damaged chunks and their
// contents are marked, their paths are not served, and the next push heals them. Nothing is ever deleted here.
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import { checkContents, markIncompleteContents } from './content-health.ts';
import { describeAgain, flushJournal } from './journal.ts';
import { PACK_PREFIX } from '../ingest/pack-writer.ts';
import { listJournal, readJournal, type JournalBlob } from './read-journal.ts';
import { markDamagedChunks, verifyPack } from './verify-pack.ts';

const PACKS_A_QUERY = 100;
const SHOWN_PATHS = 1000;

export interface FsckParts {
  readonly database: Database;
  readonly blobs: BlobStore;
}

export interface FsckOptions {
  /** Reads every byte; otherwise presence and size of each pack count. */
  readonly full: boolean;
  readonly repair: boolean;
  readonly onProgress?: (done: { readonly packs: number; readonly bytes: number }) => void;
}

export interface FsckReport {
  readonly packs: number;
  readonly missingPacks: readonly string[];
  /** Packs of another size than they had. */
  readonly wrongPacks: readonly string[];
  /** Packs that nobody names: uploads under way, or cut off; the server's start removes those. */
  readonly unnamedPacks: number;
  readonly chunks: number;
  readonly bytes: number;
  readonly damagedChunks: number;
  readonly damagedContents: number;
  /** Paths that are absent for it, the first thousand. */
  readonly damagedPaths: readonly string[];
  /** Parts of the journal that cannot be read. */
  readonly brokenJournals: readonly string[];
  /** Whether all is as it should be, or was marked so. */
  readonly clean: boolean;
}

export async function fsck(parts: FsckParts, options: FsckOptions): Promise<FsckReport> {
  const packs = await checkPacks(parts, options);
  const brokenJournals = await checkJournal(parts, options);
  const damagedContents = await countDamaged(parts.database, options.repair);
  const damagedPaths = await readDamagedPaths(parts.database);
  const found = packs.damagedChunks + packs.missingPacks.length + packs.wrongPacks.length + damagedContents;
  return {
    ...packs,
    brokenJournals,
    damagedContents,
    damagedPaths,
    clean: found + brokenJournals.length === 0,
  };
}

async function checkPacks(parts: FsckParts, options: FsckOptions) {
  const stored = new Map<string, number>();
  for await (const { key, size } of parts.blobs.list(PACK_PREFIX)) stored.set(key, size);
  const [missingPacks, wrongPacks]: [string[], string[]] = [[], []];
  let [packs, chunks, bytes, damagedChunks] = [0, 0, 0, 0];
  for await (const pack of namedPacks(parts.database)) {
    const size = stored.get(pack.blob_key);
    stored.delete(pack.blob_key);
    if (pack.retired_at !== null) continue; // its chunks are elsewhere
    packs++;
    if (size === undefined) missingPacks.push(pack.blob_key);
    else if (size !== pack.size) wrongPacks.push(pack.blob_key);
    if (!options.full && size === pack.size) continue;
    const found = await verifyPack(parts, pack, { deep: options.full });
    if (options.repair) await markDamagedChunks(parts.database, pack, found.damaged);
    chunks += found.chunks;
    bytes += found.bytes;
    damagedChunks += found.damaged.length;
    options.onProgress?.({ packs, bytes });
  }
  return { packs, missingPacks, wrongPacks, unnamedPacks: stored.size, chunks, bytes, damagedChunks };
}

async function* namedPacks({ read }: Database) {
  for (let after = 0; ;) {
    const rows = await read
      .selectFrom('pack')
      .selectAll()
      .where('id', '>', after)
      .orderBy('id')
      .limit(PACKS_A_QUERY)
      .execute();
    yield* rows;
    const last = rows.at(-1);
    if (last === undefined || rows.length < PACKS_A_QUERY) return;
    after = last.id;
  }
}

/** A journal that cannot be read in part is written anew from the database, which is whole. */
async function checkJournal(parts: FsckParts, { repair }: FsckOptions): Promise<string[]> {
  const broken: string[] = [];
  for (const blob of await listJournal(parts.blobs))
    if (!(await isReadable(parts.blobs, blob))) broken.push(blob.key);
  if (broken.length === 0 || !repair) return broken;
  await describeAgain(parts.database);
  await flushJournal(parts);
  for (const key of broken) await parts.blobs.delete(key);
  return broken;
}

async function isReadable(blobs: BlobStore, blob: JournalBlob): Promise<boolean> {
  for await (const batch of readJournal(blobs, blob)) if (batch === 'broken') return false;
  return true;
}

async function countDamaged(database: Database, repair: boolean): Promise<number> {
  if (repair) return await markIncompleteContents(database);
  let damaged = 0;
  for await (const { whole, marked } of checkContents(database.read)) if (!whole || marked) damaged++;
  return damaged;
}

async function readDamagedPaths({ read }: Database): Promise<string[]> {
  const rows = await read
    .selectFrom('store_path')
    .innerJoin('content', 'content.id', 'store_path.content_id')
    .select('store_path.store_path')
    .where('content.damaged_at', 'is not', null)
    .orderBy('store_path.store_path')
    .limit(SHOWN_PATHS)
    .execute();
  return rows.map((row) => row.store_path);
}
