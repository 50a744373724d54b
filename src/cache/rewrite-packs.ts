// Copies what is still needed out of some packs into new ones, and retires the old. Readers go on: an old pack stays
// until nobody can be reading it, and a reader that comes too late finds the frames where they are now.
import { crc32 } from 'node:zlib';
import type { Transaction } from 'kysely';
import type { BlobStore } from '../storage/blob-store.ts';
import type { Database } from '../storage/database.ts';
import type { Schema } from '../storage/schema.ts';
import { SlipwayError } from '../util/errors.ts';
import { FRAME_KIND, type PackEntry } from '../content/pack-format.ts';
import { readPackIndex } from './pack-index.ts';
import { PackWriter, type SealedPack } from './pack-writer.ts';

const HASHES_A_QUERY = 500;

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

/** Returns the new packs. Durable and complete when this resolves; the old packs are retired. */
export async function rewritePacks(
  parts: RewriteParts,
  old: readonly LivePack[],
  now: number,
): Promise<readonly SealedPack[]> {
  await using writer = new PackWriter(parts.blobs);
  const copied = new Set<string>();
  for (const { pack, entries } of old)
    for (const entry of entries) {
      const key = `${entry.kind}/${keyOf(entry.hash)}`;
      if (copied.has(key)) continue; // a recipe may stand in several packs
      await writer.append(await readFrame(parts.blobs, pack, entry), entry);
      copied.add(key);
    }
  const sealed = await writer.finish();
  const packs = old.map(({ pack }) => pack);
  await parts.database.write(async (transaction) => {
    for (const pack of sealed) await moveChunks(transaction, pack, packs, now);
    await retireEmpty(transaction, packs, now);
  });
  return sealed;
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

async function readFrame(blobs: BlobStore, pack: PackRow, entry: PackEntry): Promise<Buffer> {
  const frame = await blobs.read(pack.blob_key, entry.offset, entry.frameLength);
  if (frame !== undefined && crc32(frame) === entry.frameCrc) return frame;
  throw new SlipwayError(
    'unavailable',
    `A frame of the pack ${pack.blob_key} is damaged; it is left as it is.`,
    {
      next: 'slipway cache fsck --repair',
    },
  );
}

/** A chunk that was stored elsewhere meanwhile stays there. */
async function moveChunks(
  transaction: Transaction<Schema>,
  sealed: SealedPack,
  old: readonly PackRow[],
  now: number,
): Promise<void> {
  const { id } = await transaction
    .insertInto('pack')
    .values({ blob_key: sealed.blobKey, size: sealed.size, created_at: now })
    .returning('id')
    .executeTakeFirstOrThrow();
  const ids = old.map((pack) => pack.id);
  for (const entry of sealed.entries)
    if (entry.kind === FRAME_KIND.chunk)
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
