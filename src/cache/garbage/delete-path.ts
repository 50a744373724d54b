// Takes one path out of every cache at once, and its bytes off the disk: for a secret that leaked. Chunks that only this
// path used are cut out of their packs by writing these anew without them; the old packs are removed, not retired.
import type { Transaction } from 'kysely';
import type { Schema } from '../../storage/schema.ts';
import { storePathHash, type StorePath } from '../../nix/store-path.ts';
import { SlipwayError } from '../../util/errors.ts';
import { takeLease, waitForLease } from './lease.ts';
import { parseRecipe } from '../../content/recipe.ts';
import { readPackIndex } from '../recovery/pack-index.ts';
import { removeRetired } from './retired-packs.ts';
import {
  readLivePack,
  rewritePacks,
  type LivePack,
  type PackRow,
  type RewriteParts,
} from './rewrite-packs.ts';

const ROWS_A_PAGE = 300;

export interface Deletion {
  readonly storePath: string;
  /** Names of the caches that held it. */
  readonly caches: readonly string[];
  /** Chunks that nothing else uses: gone. */
  readonly removedChunks: number;
  readonly removedBytes: number;
  /** Chunks that other contents hold as well: they stay. */
  readonly sharedChunks: number;
  /** Other paths with the very same contents, which therefore stay. */
  readonly sameContents: readonly string[];
  readonly removedPacks: readonly string[];
  readonly newPacks: readonly string[];
  /** Whether storage was looked at again, and neither the old packs nor any removed chunk were found in it. */
  readonly proven: boolean;
}

/** Refuses with `conflict` while other paths reference it, unless `force`. `not_found`: no cache holds it. */
export async function deletePath(
  parts: RewriteParts,
  path: StorePath,
  options: { readonly force: boolean },
): Promise<Deletion> {
  await using lease = await takeLease(parts.database, 'garbage');
  if (lease === undefined)
    throw new SlipwayError('conflict', 'Garbage is being collected on this storage right now.', {
      next: 'Try again in a minute.',
    });
  // Whoever writes packs anew right now could carry the bytes on.
  await using merging = await waitForLease(parts.database, 'packs');
  const referrers = options.force ? [] : await findReferrers(parts, path);
  if (referrers.length > 0)
    throw new SlipwayError('conflict', `${path} is referenced by ${referrers.slice(0, 5).join(', ')}.`, {
      next: 'Delete those first, or use --force: they then lack what they need until it is pushed again.',
      facts: { referrers },
    });
  const taken = await parts.database.write(async (transaction) => await takePath(transaction, path));
  const exclusive = await exclusiveChunks(parts, taken.chunks);
  const packs = await packsOf(parts, [...exclusive.values()]);
  await parts.database.write(async (transaction) => {
    await dropChunks(transaction, [...exclusive.values()]);
    await markChunks(
      transaction,
      taken.chunks.map(({ hash }) => hash),
      null,
    );
  });
  const written = await writeAnew(parts, packs);
  await merging.renew();
  const proven = await isGone(parts, packs, exclusive);
  return {
    storePath: path,
    caches: taken.caches,
    removedChunks: exclusive.size,
    removedBytes: taken.chunks
      .filter(({ hash }) => exclusive.has(keyOf(hash)))
      .reduce((sum, { rawLength }) => sum + rawLength, 0),
    sharedChunks: new Set(taken.chunks.map(({ hash }) => keyOf(hash))).size - exclusive.size,
    sameContents: taken.sameContents,
    removedPacks: packs.map(({ blob_key }) => blob_key),
    newPacks: written,
    proven,
  };
}

async function findReferrers({ database }: RewriteParts, path: StorePath): Promise<string[]> {
  const rows = await database.read
    .selectFrom('store_path')
    .select('store_path')
    .distinct()
    .where('path_references', 'like', `%${storePathHash(path)}-%`)
    .where('store_path', '!=', path)
    .execute();
  return rows.map((row) => row.store_path);
}

interface TakenPath {
  readonly caches: readonly string[];
  readonly sameContents: readonly string[];
  readonly chunks: readonly { readonly hash: Uint8Array; readonly rawLength: number }[];
}

/** Removes the path from every cache, and its contents unless another path has the very same. */
async function takePath(transaction: Transaction<Schema>, path: StorePath): Promise<TakenPath> {
  const hash = storePathHash(path);
  const rows = await transaction
    .selectFrom('store_path')
    .innerJoin('cache', 'cache.id', 'store_path.cache_id')
    .select(['cache.id', 'cache.name', 'content_id'])
    .where('store_path', '=', path)
    .where('hash', '=', hash)
    .execute();
  if (rows.length === 0) throw new SlipwayError('not_found', `No cache of this server holds ${path}.`);
  await transaction
    .deleteFrom('store_path')
    .where('store_path', '=', path)
    .where('hash', '=', hash)
    .execute();
  await transaction.deleteFrom('side_file').where('name', '=', `${hash}.ls`).execute();
  // Servers drop the narinfos that they remember when the epoch moves.
  for (const { id } of rows)
    await transaction
      .updateTable('cache')
      .set((builder) => ({ epoch: builder('epoch', '+', 1) }))
      .where('id', '=', id)
      .execute();
  const contentIds = [...new Set(rows.map((row) => row.content_id))];
  const taken = { caches: rows.map((row) => row.name), sameContents: [], chunks: [] };
  return await takeContents(transaction, contentIds, taken);
}

async function takeContents(
  transaction: Transaction<Schema>,
  contentIds: readonly number[],
  taken: TakenPath,
): Promise<TakenPath> {
  const others = await transaction
    .selectFrom('store_path')
    .select('store_path')
    .where('content_id', 'in', contentIds)
    .execute();
  if (others.length > 0) return { ...taken, sameContents: others.map((row) => row.store_path) };
  const contents = await transaction
    .selectFrom('content')
    .select('recipe')
    .where('id', 'in', contentIds)
    .execute();
  await transaction.deleteFrom('nar_upload').where('content_id', 'in', contentIds).execute();
  await transaction.deleteFrom('content').where('id', 'in', contentIds).execute();
  const chunks = contents.flatMap(({ recipe }) => [...parseRecipe(recipe).chunks]);
  // An upload that still counts on one of them takes the mark off when it commits, and the chunk then stays.
  await markChunks(
    transaction,
    chunks.map(({ hash }) => hash),
    Date.now(),
  );
  return { ...taken, chunks };
}

async function markChunks(
  transaction: Transaction<Schema>,
  hashes: readonly Uint8Array[],
  orphaned_at: number | null,
): Promise<void> {
  for (let from = 0; from < hashes.length; from += ROWS_A_PAGE)
    await transaction
      .updateTable('chunk')
      .set({ orphaned_at })
      .where('hash', 'in', hashes.slice(from, from + ROWS_A_PAGE))
      .execute();
}

/** Those of the chunks that no content uses any more: exact, by reading every recipe. */
async function exclusiveChunks(
  { database }: RewriteParts,
  chunks: TakenPath['chunks'],
): Promise<Map<string, Uint8Array>> {
  const exclusive = new Map(chunks.map(({ hash }) => [keyOf(hash), hash]));
  for (let after = 0; exclusive.size > 0;) {
    const rows = await database.read
      .selectFrom('content')
      .select(['id', 'recipe'])
      .where('id', '>', after)
      .orderBy('id')
      .limit(ROWS_A_PAGE)
      .execute();
    for (const { recipe } of rows)
      for (const { hash } of parseRecipe(recipe).chunks) exclusive.delete(keyOf(hash));
    const last = rows.at(-1);
    if (last === undefined) break;
    after = last.id;
  }
  return exclusive;
}

/** Every pack that has a frame of the chunks: a chunk that was stored again may lie in an older pack, too. */
async function packsOf({ database, blobs }: RewriteParts, hashes: readonly Uint8Array[]): Promise<PackRow[]> {
  if (hashes.length === 0) return [];
  const wanted = new Set(hashes.map(keyOf));
  const packs = await database.read
    .selectFrom('pack')
    .select(['id', 'blob_key', 'size'])
    .where((where) => where.or([where('retired_at', 'is', null), where('retired_at', '>=', 0)]))
    .execute();
  const found: PackRow[] = [];
  for (const pack of packs) {
    const index = await readPackIndex(blobs, pack.blob_key);
    if (index?.some(({ parts: held }) => held.some(({ hash }) => wanted.has(keyOf(hash)))) === true)
      found.push(pack);
  }
  return found;
}

async function dropChunks(transaction: Transaction<Schema>, hashes: readonly Uint8Array[]): Promise<void> {
  for (let from = 0; from < hashes.length; from += ROWS_A_PAGE)
    await transaction
      .deleteFrom('chunk')
      .where('hash', 'in', hashes.slice(from, from + ROWS_A_PAGE))
      .where('orphaned_at', 'is not', null)
      .execute();
}

/** Returns the keys of the new packs. The old ones are removed at once: readers find the frames where they are now. */
async function writeAnew(parts: RewriteParts, packs: readonly PackRow[]): Promise<string[]> {
  const written: string[] = [];
  for (const pack of packs) {
    const live: LivePack = (await readLivePack(parts, pack)) ?? { pack, frames: [], liveBytes: 0 };
    written.push(...(await rewritePacks(parts, [live], { now: Date.now() })).map(({ blobKey }) => blobKey));
  }
  await removeRetired(parts, { before: Date.now(), now: Date.now() });
  return written;
}

/** Looks at storage again: the old packs are away, and no pack holds one of the chunks. */
async function isGone(
  parts: RewriteParts,
  packs: readonly PackRow[],
  removed: ReadonlyMap<string, Uint8Array>,
): Promise<boolean> {
  for (const { blob_key } of packs) if ((await parts.blobs.size(blob_key)) !== undefined) return false;
  return (await packsOf(parts, [...removed.values()])).length === 0;
}

function keyOf(hash: Uint8Array): string {
  return Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString('latin1');
}
