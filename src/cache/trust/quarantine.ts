// Holds back what a revoked writer has written, in every cache, in one transaction. A path stays when somebody else has
// sent the same bytes to the same cache, or when it was published for a reason that is not this writer's word.
import type { Transaction } from 'kysely';
import { formatHash } from '../../nix/hash.ts';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';

/** Reasons that hold whoever the writer is; agreement and an operator's word relied on it. */
const PROOFS = ['promoted:content-address', 'promoted:signature'];

export interface QuarantineResult {
  /** Paths that count as absent now, as `<cache> <store path>`. */
  readonly held: readonly string[];
  /** How many stay because somebody else vouches for them. */
  readonly kept: number;
  /** Logs, listings and realisations that are gone. */
  readonly sideFiles: number;
}

export async function quarantineWriter(
  database: Database,
  writer: string,
  now = Date.now(),
): Promise<QuarantineResult> {
  return await database.write(async (transaction) => {
    const paths = await pathsOf(transaction, writer);
    const held: string[] = [];
    const caches = new Set<number>();
    for (const path of paths) {
      const voucher = await findVoucher(transaction, path, writer);
      if (voucher === undefined) {
        held.push(`${path.cache_name} ${path.store_path}`);
        await deleteListing(transaction, path);
      }
      caches.add(path.cache_id);
      await transaction
        .updateTable('store_path')
        .set(voucher === undefined ? { quarantined_at: now } : { writer: voucher })
        .where('cache_id', '=', path.cache_id)
        .where('hash', '=', path.hash)
        .execute();
    }
    const sideFiles = await deleteUnvouched(transaction, writer);
    for (const id of caches) await bumpEpoch(transaction, id);
    return { held, kept: paths.length - held.length, sideFiles };
  });
}

/** Listings are made here from the NAR: the next NAR of the path gets one of its own. */
async function deleteListing(transaction: Transaction<Schema>, path: WrittenPath): Promise<void> {
  await transaction
    .deleteFrom('side_file')
    .where('cache_id', '=', path.cache_id)
    .where('name', '=', `${path.hash}.ls`)
    .execute();
}

interface WrittenPath {
  readonly cache_id: number;
  readonly cache_name: string;
  readonly hash: string;
  readonly store_path: string;
  readonly nar_hash: Uint8Array;
}

async function pathsOf(transaction: Transaction<Schema>, writer: string): Promise<WrittenPath[]> {
  return await transaction
    .selectFrom('store_path')
    .innerJoin('cache', 'cache.id', 'store_path.cache_id')
    .innerJoin('content', 'content.id', 'store_path.content_id')
    .select([
      'store_path.cache_id',
      'store_path.hash',
      'store_path.store_path',
      'cache.name as cache_name',
      'content.hash as nar_hash',
    ])
    .where('store_path.writer', '=', writer)
    .where('store_path.quarantined_at', 'is', null)
    .execute();
}

/** The writer whose word the path stands on without the revoked one; the latter itself for a proof. */
async function findVoucher(
  transaction: Transaction<Schema>,
  path: WrittenPath,
  revoked: string,
): Promise<string | undefined> {
  const origins = await transaction
    .selectFrom('path_origin')
    .select(['writer', 'way'])
    .where('cache_id', '=', path.cache_id)
    .where('hash', '=', path.hash)
    .where('nar_hash', '=', formatHash({ algo: 'sha256', bytes: path.nar_hash }))
    .orderBy('id')
    .execute();
  const proof = origins.find(({ way }) => PROOFS.includes(way));
  if (proof !== undefined) return proof.writer;
  const others = origins.filter(({ writer, way }) => writer !== revoked && way === 'push');
  for (const { writer } of others) if (!(await isRevoked(transaction, writer))) return writer;
  return undefined;
}

/** Writers that came without a token of ours are not in the table, and cannot be revoked there. */
async function isRevoked(transaction: Transaction<Schema>, writer: string): Promise<boolean> {
  const row = await transaction
    .selectFrom('access_token')
    .select('revoked_at')
    .where('id', '=', writer)
    .executeTakeFirst();
  return row !== undefined && row.revoked_at !== null;
}

/** Uploads by their own URL, and what nobody can check: logs, listings, realisations. */
async function deleteUnvouched(transaction: Transaction<Schema>, writer: string): Promise<number> {
  await transaction.deleteFrom('nar_upload').where('writer', '=', writer).execute();
  const deleted = await transaction.deleteFrom('side_file').where('writer', '=', writer).executeTakeFirst();
  return Number(deleted.numDeletedRows);
}

async function bumpEpoch(transaction: Transaction<Schema>, id: number): Promise<void> {
  await transaction
    .updateTable('cache')
    .set((builder) => ({ epoch: builder('epoch', '+', 1) }))
    .where('id', '=', id)
    .execute();
}
