// Copies what is still needed out of some packs into new ones, and retires the old: frames as they are, but those of which
// only some chunks are needed are made anew from these. Readers go on: an old pack stays until nobody can be reading it,
// and a reader that comes too late finds the frames where they are now.
import { setImmediate as pause } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import type { Transaction } from 'kysely';
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { SlipwayError } from '../../util/errors.ts';
import { cutFrame } from '../../content/remake-frames.ts';
import { FRAME_KIND, rawLengthOf, type FrameContents, type PackedFrame } from '../../content/pack-format.ts';
import { readPackIndex } from '../recovery/pack-index.ts';
import { chunksOf, placeOf, unsettledBytes, type PackedChunk } from '../ingest/commit-content.ts';
import { PackWriter, type SealedPack } from '../ingest/pack-writer.ts';
import { chunkKey, hashBatches } from '../stored-chunks.ts';

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
  readonly frames: readonly LiveFrame[];
  readonly liveBytes: number;
}

export interface LiveFrame {
  readonly frame: PackedFrame;
  /** Its chunks that are needed; absent: all of it is. */
  readonly keep?: readonly PackedChunk[];
}

export interface RewriteParts {
  readonly database: Database;
  readonly blobs: BlobStore;
}

/** What is still needed of a pack: `undefined` when the pack cannot be read, which is fsck's business. */
export async function readLivePack(parts: RewriteParts, pack: PackRow): Promise<LivePack | undefined> {
  const index = await readPackIndex(parts.blobs, pack.blob_key);
  if (index === undefined) return undefined;
  const places = await chunkPlaces(parts.database, pack.id);
  const contents = await knownContents(parts.database, index);
  const frames = index.flatMap((frame): LiveFrame[] => {
    if (frame.kind === FRAME_KIND.recipe)
      return frame.parts.some(({ hash }) => contents.has(chunkKey(hash))) ? [{ frame }] : [];
    if (frame.kind !== FRAME_KIND.chunk) return [{ frame }];
    const keep = chunksOf(frame).filter(
      (chunk) => places.get(chunkKey(chunk.hash)) === placeKey(frame.offset, chunk.offset),
    );
    if (keep.length === frame.parts.length) return [{ frame }];
    return keep.length === 0 ? [] : [{ frame, keep }];
  });
  return { pack, frames, liveBytes: frames.reduce((sum, frame) => sum + liveBytesOf(frame), 0) };
}

/** What is needed of a frame, were all bytes of it compressed alike. */
function liveBytesOf({ frame, keep }: LiveFrame): number {
  if (keep === undefined) return frame.length;
  const kept = keep.reduce((sum, { rawLength }) => sum + rawLength, 0);
  return Math.round((frame.length * kept) / rawLengthOf(frame));
}

export interface RewriteOptions {
  readonly now: number;
  /** Called between reads; may throw to stop, which leaves everything as it was. */
  readonly progress?: () => Promise<void>;
}

/** Writes what is needed of packs into new ones, as replacePacks() does. */
export async function rewritePacks(
  parts: RewriteParts,
  old: readonly LivePack[],
  { now, progress }: RewriteOptions,
): Promise<readonly SealedPack[]> {
  const packs = old.map(({ pack }) => pack);
  const copyAll = async (writer: PackWriter): Promise<void> => {
    const copied = new Set<string>();
    for (const { pack, frames } of old)
      for (const run of planRuns(frames.filter(({ frame }) => isFirst(copied, frame)))) {
        await progress?.();
        for (const { live, bytes } of await readRun(parts.blobs, pack, run))
          await copyFrame(writer, live, bytes);
      }
  };
  return await replacePacks(parts, packs, copyAll, now);
}

/**
 * Returns the new packs, into which `write` puts all that is needed of the old. Durable and complete when this resolves; the
 * old packs are retired. Cut off in between, some chunks are in the new packs and the others still in the old ones.
 */
export async function replacePacks(
  { database, blobs }: RewriteParts,
  old: readonly PackRow[],
  write: (writer: PackWriter) => Promise<void>,
  now: number,
): Promise<readonly SealedPack[]> {
  await using writer = new PackWriter(blobs);
  await write(writer);
  const sealed = await writer.finish();
  for (const pack of sealed) await moveChunks(database, pack, old, now);
  await database.write(async (transaction) => await retireEmpty(transaction, old, now));
  return sealed;
}

/** What is needed of a frame, whose bytes these are. */
export async function copyFrame(
  writer: PackWriter,
  { frame, keep }: LiveFrame,
  bytes: Buffer,
): Promise<void> {
  if (keep === undefined) return await writer.append(bytes, frame);
  for (const cut of await cutFrame(bytes, rawLengthOf(frame), keep)) {
    const contents: FrameContents = { kind: FRAME_KIND.chunk, parts: cut.chunks };
    await writer.append(cut.frame, contents);
  }
}

/** A recipe may stand in several packs; a chunk that is needed is in one place alone. */
function isFirst(copied: Set<string>, { kind, parts }: PackedFrame): boolean {
  if (kind !== FRAME_KIND.recipe) return true;
  const key = parts.map(({ hash }) => chunkKey(hash)).join('');
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
function planRuns(frames: readonly LiveFrame[]): LiveFrame[][] {
  const runs: LiveFrame[][] = [];
  let [start, end] = [0, 0];
  for (const live of frames.toSorted((a, b) => a.frame.offset - b.frame.offset)) {
    const { offset, length } = live.frame;
    const close = offset - end <= GAP_BYTES && offset + length - start <= RUN_BYTES;
    if (close && runs.length > 0) runs.at(-1)?.push(live);
    else {
      runs.push([live]);
      start = offset;
    }
    end = offset + length;
  }
  return runs;
}

async function readRun(
  blobs: BlobStore,
  pack: PackRow,
  run: readonly LiveFrame[],
): Promise<{ readonly live: LiveFrame; readonly bytes: Buffer }[]> {
  const start = run[0]?.frame.offset ?? 0;
  const end = run.reduce((last, { frame }) => Math.max(last, frame.offset + frame.length), start);
  const all = await blobs.read(pack.blob_key, start, end - start);
  return run.map((live) => {
    const { offset, length, crc } = live.frame;
    const bytes = all?.subarray(offset - start, offset - start + length);
    if (bytes !== undefined && crc32(bytes) === crc) return { live, bytes };
    throw damagedFrame(pack.blob_key);
  });
}

/** With the pack's key as a fact. */
export function damagedFrame(blobKey: string): SlipwayError {
  return new SlipwayError('unavailable', `A frame of the pack ${blobKey} is damaged; it is left as it is.`, {
    next: 'slipway cache fsck --repair',
    facts: { pack: blobKey },
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
  const chunks = sealed.frames.filter(({ kind }) => kind === FRAME_KIND.chunk).flatMap(chunksOf);
  for (let from = 0; from < chunks.length; from += MOVES_A_WRITE) {
    const batch = chunks.slice(from, from + MOVES_A_WRITE);
    await database.write(async (transaction) => {
      for (const chunk of batch)
        await transaction
          .updateTable('chunk')
          .set(placeOf(id, chunk))
          .where('hash', '=', chunk.hash)
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
    .values({
      blob_key: pack.blobKey,
      size: pack.size,
      created_at: now,
      unsettled_bytes: unsettledBytes(pack.frames),
    })
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
async function chunkPlaces(database: Database, packId: number): Promise<Map<string, string>> {
  const rows = await database.read
    .selectFrom('chunk')
    .select(['hash', 'frame_offset', 'chunk_offset'])
    .where('pack_id', '=', packId)
    .where('damaged_at', 'is', null)
    .execute();
  return new Map(rows.map((row) => [chunkKey(row.hash), placeKey(row.frame_offset, row.chunk_offset)]));
}

function placeKey(frameOffset: number, chunkOffset: number): string {
  return `${frameOffset}/${chunkOffset}`;
}

async function knownContents(database: Database, index: readonly PackedFrame[]): Promise<Set<string>> {
  const recipes = index
    .filter(({ kind }) => kind === FRAME_KIND.recipe)
    .flatMap(({ parts }) => parts.map(({ hash }) => hash));
  const known = new Set<string>();
  for (const batch of hashBatches(recipes)) {
    const rows = await database.read
      .selectFrom('content')
      .select('hash')
      .where('hash', 'in', batch)
      .execute();
    for (const { hash } of rows) known.add(chunkKey(hash));
  }
  return known;
}
