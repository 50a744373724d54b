// Copies what is still needed out of some packs into new ones, and retires the old. Readers go on: an old pack stays
// until nobody can be reading it, and a reader that comes too late finds the frames where they are now.
import { setImmediate as pause } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import type { Transaction } from 'kysely';
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { SlipwayError } from '../../util/errors.ts';
import { FRAME_KIND, type PackEntry } from '../../content/pack-format.ts';
import { readPackIndex } from '../recovery/pack-index.ts';
import { PackWriter, type SealedPack } from '../ingest/pack-writer.ts';

const HASHES_A_QUERY = 500;
/** Frames that lie close together are read in one go: on S3 a read is a request. */
const RUN_BYTES = 4 * 1024 * 1024;
const GAP_BYTES = 128 * 1024;
/** So many chunks move in one transaction: readers and uploads come between. */
const MOVES_A_WRITE = 500;

export interface PackRow {
  readonly id: number;
  readonly blob_key: string;
  readonly size: number;
}

/** What must be copied out of a pack. */
export interface LivePack {
  readonly pack: PackRow;
  readonly entries: readonly PackEntry[];
  readonly liveBytes: number;
}

export interface RewriteParts {
  readonly database: Database;
  readonly blobs: BlobStore;
}

/** What is still needed of a pack: `undefined` when the pack cannot be read, which is fsck's business. */
export async function readLivePack(parts: RewriteParts, pack: PackRow): Promise<LivePack | undefined> {
  const index = await readPackIndex(parts.blobs, pack.blob_key);
  if (index === undefined) return undefined;
  const chunks = await chunkOffsets(parts.database, pack.id);
  const contents = await knownContents(parts.database, index);
  const entries = index.filter((entry) => {
    if (entry.kind === FRAME_KIND.chunk) return chunks.get(keyOf(entry.hash)) === entry.offset;
    return entry.kind !== FRAME_KIND.recipe || contents.has(keyOf(entry.hash));
  });
  return { pack, entries, liveBytes: entries.reduce((sum, entry) => sum + entry.frameLength, 0) };
}

export interface RewriteOptions {
  readonly now: number;
  /** Called between reads; may throw to stop, which leaves everything as it was. */
  readonly progress?: () => Promise<void>;
}

/**
 * Returns the new packs. Durable and complete when this resolves; the old packs are retired. Cut off in between, some
 * chunks are in the new pack and the others still in the old one.
 */
export async function rewritePacks(
  parts: RewriteParts,
  old: readonly LivePack[],
  { now, progress }: RewriteOptions,
): Promise<readonly SealedPack[]> {
  await using writer = new PackWriter(parts.blobs);
  const copied = new Set<string>();
  for (const { pack, entries } of old)
    for (const run of planRuns(entries.filter((entry) => isFirst(copied, entry)))) {
      await progress?.();
      for (const { entry, frame } of await readRun(parts.blobs, pack, run)) await writer.append(frame, entry);
    }
  const sealed = await writer.finish();
  const packs = old.map(({ pack }) => pack);
  for (const pack of sealed) await moveChunks(parts.database, pack, packs, now);
  await parts.database.write(async (transaction) => await retireEmpty(transaction, packs, now));
  return sealed;
}

/** A recipe may stand in several packs. */
function isFirst(copied: Set<string>, { kind, hash }: PackEntry): boolean {
  const key = `${kind}/${keyOf(hash)}`;
  return copied.has(key) ? false : copied.add(key) !== undefined;
}

/** Retires the packs of which no chunk is left. */
export async function retireEmpty(
  transaction: Transaction<Schema>,
  packs: readonly PackRow[],
  now: number,
): Promise<void> {
  for (const { id } of packs)
    await transaction
      .updateTable('pack')
      .set({ retired_at: now })
      .where('id', '=', id)
      .where('retired_at', 'is', null)
      .where((where) =>
        where.not(
          where.exists(
            where.selectFrom('chunk').select('chunk.hash').whereRef('chunk.pack_id', '=', 'pack.id'),
          ),
        ),
      )
      .execute();
}

/** In the order of the pack. */
function planRuns(entries: readonly PackEntry[]): PackEntry[][] {
  const runs: PackEntry[][] = [];
  let [start, end] = [0, 0];
  for (const entry of entries.toSorted((a, b) => a.offset - b.offset)) {
    const close = entry.offset - end <= GAP_BYTES && entry.offset + entry.frameLength - start <= RUN_BYTES;
    if (close && runs.length > 0) runs.at(-1)?.push(entry);
    else {
      runs.push([entry]);
      start = entry.offset;
    }
    end = entry.offset + entry.frameLength;
  }
  return runs;
}

async function readRun(
  blobs: BlobStore,
  pack: PackRow,
  run: readonly PackEntry[],
): Promise<{ readonly entry: PackEntry; readonly frame: Buffer }[]> {
  const start = run[0]?.offset ?? 0;
  const end = run.reduce((last, entry) => Math.max(last, entry.offset + entry.frameLength), start);
  const bytes = await blobs.read(pack.blob_key, start, end - start);
  return run.map((entry) => {
    const frame = bytes?.subarray(entry.offset - start, entry.offset - start + entry.frameLength);
    if (frame !== undefined && crc32(frame) === entry.frameCrc) return { entry, frame };
    throw new SlipwayError(
      'unavailable',
      `A frame of the pack ${pack.blob_key} is damaged; it is left as it is.`,
      { next: 'slipway cache fsck --repair' },
    );
  });
}

/** A chunk that was stored elsewhere meanwhile stays there. */
async function moveChunks(
  database: Database,
  sealed: SealedPack,
  old: readonly PackRow[],
  now: number,
): Promise<void> {
  const id = await database.write(async (transaction) => await namePack(transaction, sealed, now));
  const ids = old.map((pack) => pack.id);
  const chunks = sealed.entries.filter((entry) => entry.kind === FRAME_KIND.chunk);
  for (let from = 0; from < chunks.length; from += MOVES_A_WRITE) {
    const batch = chunks.slice(from, from + MOVES_A_WRITE);
    await database.write(async (transaction) => {
      for (const entry of batch)
        await transaction
          .updateTable('chunk')
          .set({
            pack_id: id,
            frame_offset: entry.offset,
            frame_length: entry.frameLength,
            frame_crc: entry.frameCrc,
          })
          .where('hash', '=', entry.hash)
          .where('pack_id', 'in', ids)
          .execute();
    });
    await pause();
  }
}

/** A server that starts takes packs that nobody names for garbage: whoever comes too late must not count on them. */
async function namePack(transaction: Transaction<Schema>, pack: SealedPack, now: number): Promise<number> {
  const row = await transaction
    .insertInto('pack')
    .values({ blob_key: pack.blobKey, size: pack.size, created_at: now })
    .onConflict((conflict) => conflict.column('blob_key').doNothing())
    .returning('id')
    .executeTakeFirst();
  if (row !== undefined) return row.id;
  throw new SlipwayError(
    'conflict',
    'A server has started meanwhile and removed a pack that was not in use yet.',
    {
      next: 'Nothing is lost. Start it again.',
    },
  );
}

/** Where the database says that the pack's chunks are. Damaged ones are not worth copying. */
async function chunkOffsets(database: Database, packId: number): Promise<Map<string, number>> {
  const rows = await database.read
    .selectFrom('chunk')
    .select(['hash', 'frame_offset'])
    .where('pack_id', '=', packId)
    .where('damaged_at', 'is', null)
    .execute();
  return new Map(rows.map((row) => [keyOf(row.hash), row.frame_offset]));
}

async function knownContents(database: Database, index: readonly PackEntry[]): Promise<Set<string>> {
  const recipes = index.filter(({ kind }) => kind === FRAME_KIND.recipe).map(({ hash }) => hash);
  const known = new Set<string>();
  for (let from = 0; from < recipes.length; from += HASHES_A_QUERY) {
    const rows = await database.read
      .selectFrom('content')
      .select('hash')
      .where('hash', 'in', recipes.slice(from, from + HASHES_A_QUERY))
      .execute();
    for (const { hash } of rows) known.add(keyOf(hash));
  }
  return known;
}

function keyOf(hash: Uint8Array): string {
  return Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString('latin1');
}
