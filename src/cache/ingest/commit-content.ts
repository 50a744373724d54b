// Makes a staged content known: packs, chunks and recipe, inside the caller's transaction.
import type { Transaction } from 'kysely';
import type { ChunkTable } from '../../storage/cache-tables.ts';
import type { Schema } from '../../storage/schema.ts';
import { SlipwayError } from '../../util/errors.ts';
import { claimChunks } from './claim-chunks.ts';
import { chunkKey } from '../stored-chunks.ts';
import { isWhole } from '../recovery/content-health.ts';
import type { StagedContent } from './content-writer.ts';
import { FRAME_KIND, rawLengthOf, type PackedFrame } from '../../content/pack-format.ts';
import type { SealedPack } from './pack-writer.ts';
import { parseRecipe } from '../../content/recipe.ts';
import { revivePack } from '../garbage/retired-packs.ts';

const ROWS_AN_INSERT = 500; // 9 columns each; SQLite takes 32,766 parameters a statement

/** A content of which every chunk is held, or is in packs that are committed. */
type WholeContent = Pick<StagedContent, 'hash' | 'size' | 'recipe'> & {
  readonly flatHash: Buffer | undefined;
};

/** Returns the content's id. Committing the same content twice is harmless and heals what was damaged. */
export async function commitContent(
  transaction: Transaction<Schema>,
  staged: WholeContent & Pick<StagedContent, 'packs'>,
  now: number,
): Promise<number> {
  await commitPacks(transaction, staged.packs, now);
  const ids = await commitContents(transaction, [staged], now);
  return ids.get(staged) as number;
}

/** The ids of many contents, some hundred in one statement: small ones cost more in statements than in bytes. */
export async function commitContents<T extends WholeContent>(
  transaction: Transaction<Schema>,
  contents: readonly T[],
  now: number,
): Promise<Map<T, number>> {
  const chunks = contents.flatMap(({ recipe }) => parseRecipe(recipe).chunks.map(({ hash }) => hash));
  await claimChunks(transaction, chunks);
  const unique = [...new Map(contents.map((content) => [keyOf(content.hash), content])).values()];
  const ids = new Map<string, number>();
  for (let from = 0; from < unique.length; from += ROWS_AN_INSERT) {
    const rows = await insertContents(transaction, unique.slice(from, from + ROWS_AN_INSERT), now);
    for (const { id, hash } of rows) ids.set(keyOf(hash), id);
  }
  return new Map(contents.map((content) => [content, ids.get(keyOf(content.hash)) as number]));
}

async function insertContents(
  transaction: Transaction<Schema>,
  contents: readonly WholeContent[],
  now: number,
): Promise<{ readonly id: number; readonly hash: Uint8Array }[]> {
  const rows = contents.map(({ hash, size, recipe, flatHash }) => ({
    hash,
    size,
    recipe,
    flat_hash: flatHash ?? null,
    created_at: now,
    damaged_at: null,
  }));
  return await transaction
    .insertInto('content')
    .values(rows)
    // The chunks of the new recipe are all held now, so the content is whole, whatever it was before.
    .onConflict((conflict) =>
      conflict.column('hash').doUpdateSet((set) => ({
        damaged_at: null,
        recipe: set.ref('excluded.recipe'),
        flat_hash: set.fn.coalesce('excluded.flat_hash', 'content.flat_hash'), // a rebuilt database lacks it
      })),
    )
    .returning(['id', 'hash'])
    .execute();
}

function keyOf(hash: Uint8Array): string {
  return Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString('latin1');
}

/** Names packs and their chunks; contents that lacked one of them are whole again. */
export async function commitPacks(
  transaction: Transaction<Schema>,
  packs: readonly SealedPack[],
  now: number,
): Promise<void> {
  let healed = 0;
  for (const pack of packs) healed += await commitPack(transaction, pack, now);
  if (healed > 0) await healContents(transaction);
}

/** Names a pack and its chunks. Returns how many damaged chunks it replaces. */
export async function commitPack(
  transaction: Transaction<Schema>,
  pack: SealedPack,
  now: number,
): Promise<number> {
  const id = await namePack(transaction, pack, now);
  const chunks = uniqueChunks(pack.frames);
  let healed = 0;
  for (let from = 0; from < chunks.length; from += ROWS_AN_INSERT)
    healed += await commitChunks(transaction, id, chunks.slice(from, from + ROWS_AN_INSERT));
  return healed;
}

/** Uploads that share a pack may both have stored a chunk in it; PostgreSQL takes a key once in a statement. */
function uniqueChunks(frames: readonly PackedFrame[]): PackedChunk[] {
  const chunks = frames.filter(({ kind }) => kind === FRAME_KIND.chunk).flatMap(chunksOf);
  return [...new Map(chunks.map((chunk) => [chunkKey(chunk.hash), chunk])).values()];
}

/** A chunk, and the frame of a pack that it is in. */
export interface PackedChunk {
  readonly hash: Uint8Array;
  readonly rawLength: number;
  /** From the start of what the frame decodes to. */
  readonly offset: number;
  readonly frame: PackedFrame;
}

export function chunksOf(frame: PackedFrame): PackedChunk[] {
  let end = 0;
  return frame.parts.map(({ hash, rawLength }) => {
    const offset = end;
    end += rawLength;
    return { hash, rawLength, offset, frame };
  });
}

/** What of a pack is still to be compressed well. */
export function unsettledBytes(frames: readonly PackedFrame[]): number {
  return frames
    .filter(({ kind, settled }) => kind === FRAME_KIND.chunk && settled !== true)
    .reduce((sum, { length }) => sum + length, 0);
}

/** Uploads that share a pack name it one after another. */
async function namePack(transaction: Transaction<Schema>, pack: SealedPack, now: number): Promise<number> {
  await transaction
    .insertInto('pack')
    .values({
      blob_key: pack.blobKey,
      size: pack.size,
      created_at: now,
      // What others have in a shared pack is not known here.
      unsettled_bytes: pack.frames.some(({ settled }) => settled) ? unsettledBytes(pack.frames) : null,
    })
    .onConflict((conflict) => conflict.column('blob_key').doNothing())
    .execute();
  const row = await transaction
    .selectFrom('pack')
    .select(['id', 'retired_at'])
    .where('blob_key', '=', pack.blobKey)
    .executeTakeFirstOrThrow();
  // Frames of others in it were moved while this upload went on.
  if (row.retired_at === null || (await revivePack(transaction, row.id))) return row.id;
  throw new SlipwayError('unavailable', 'The upload took so long that its pack was removed meanwhile.', {
    next: 'Push it again.',
  });
}

async function commitChunks(
  transaction: Transaction<Schema>,
  packId: number,
  chunks: readonly PackedChunk[],
): Promise<number> {
  const damaged = await transaction
    .selectFrom('chunk')
    .select((builder) => builder.fn.countAll<number>().as('count'))
    .where(
      'hash',
      'in',
      chunks.map((chunk) => chunk.hash),
    )
    .where('damaged_at', 'is not', null)
    .executeTakeFirstOrThrow();
  await transaction
    .insertInto('chunk')
    .values(chunks.map((chunk) => chunkRow(packId, chunk)))
    // Another upload may have stored the same chunk meanwhile: the first place wins unless it is damaged or on its
    // way out.
    .onConflict((conflict) =>
      conflict
        .column('hash')
        .doUpdateSet((excluded) => ({
          pack_id: excluded.ref('excluded.pack_id'),
          frame_offset: excluded.ref('excluded.frame_offset'),
          frame_length: excluded.ref('excluded.frame_length'),
          frame_crc: excluded.ref('excluded.frame_crc'),
          frame_raw_length: excluded.ref('excluded.frame_raw_length'),
          chunk_offset: excluded.ref('excluded.chunk_offset'),
          damaged_at: null,
          orphaned_at: null,
        }))
        .where((where) =>
          where.or([where('chunk.damaged_at', 'is not', null), where('chunk.orphaned_at', 'is not', null)]),
        ),
    )
    .execute();
  return damaged.count;
}

function chunkRow(packId: number, chunk: PackedChunk) {
  return { hash: chunk.hash, raw_length: chunk.rawLength, damaged_at: null, ...placeOf(packId, chunk) };
}

/** The columns that say where a chunk is. */
export type ChunkPlace = Pick<
  ChunkTable,
  'pack_id' | 'frame_offset' | 'frame_length' | 'frame_crc' | 'frame_raw_length' | 'chunk_offset'
>;

export function placeOf(packId: number, { offset, frame }: PackedChunk): ChunkPlace {
  return {
    pack_id: packId,
    frame_offset: frame.offset,
    frame_length: frame.length,
    frame_crc: frame.crc,
    frame_raw_length: rawLengthOf(frame),
    chunk_offset: offset,
  };
}

/** Contents that counted as absent because of a chunk that is whole again. */
async function healContents(transaction: Transaction<Schema>): Promise<void> {
  const contents = await transaction
    .selectFrom('content')
    .select(['id', 'recipe'])
    .where('damaged_at', 'is not', null)
    .execute();
  for (const content of contents)
    if (await isWhole(transaction, content.recipe))
      await transaction
        .updateTable('content')
        .set({ damaged_at: null })
        .where('id', '=', content.id)
        .execute();
}
