// Writes a published path and the record of who vouches for it, inside the caller's transaction.
// The first NAR hash of a path wins; another one is refused and recorded, never an overwrite. Only what was
// quarantined is replaced: its writer was revoked.
import type { Transaction } from 'kysely';
import { formatHash } from '../nix/hash.ts';
import { fingerprint, formatNarInfo, parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { storePathBaseName, storePathHash, type StorePath } from '../nix/store-path.ts';
import type { Schema } from '../storage/schema.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Cache } from './cache-registry.ts';
import { rescuePaths } from './garbage/rescue-paths.ts';
import { UPSTREAM_WRITER, type Writer } from './writer.ts';

const MOST_FOREIGN_SIGNATURES = 32; // narinfos with more than 64 in all are refused by readers, ours included

export interface PathWrite {
  readonly cache: Cache;
  /** As it will be served, but for its signatures. */
  readonly info: NarInfo;
  readonly contentId: number;
  /** The cache's own signatures. */
  readonly own: readonly string[];
  readonly writer: Writer;
  /** `push`, or why a contributor's path is published. */
  readonly way: string;
  /** Whether all that the path references has to be here. */
  readonly complete: boolean;
}

/** Returns the conflict instead of throwing it, so that its record is committed. */
export async function writePath(
  transaction: Transaction<Schema>,
  write: PathWrite,
): Promise<SlipwayError | undefined> {
  await rescueNeeded(transaction, write);
  const held = await transaction
    .selectFrom('store_path')
    .select(['narinfo', 'quarantined_at'])
    .where('cache_id', '=', write.cache.id)
    .where('hash', '=', storePathHash(write.info.storePath))
    .executeTakeFirst();
  if (held === undefined || held.quarantined_at !== null) await insertPath(transaction, write);
  else {
    const info = parseNarInfo(held.narinfo, write.cache.storeDir);
    if (fingerprint(info) !== fingerprint(write.info)) return await recordConflict(transaction, write, info);
    await addSignatures(transaction, write, info);
    await makeOwn(transaction, write);
  }
  await recordOrigin(transaction, write);
  return undefined;
}

export function missingReference(info: NarInfo, missing: StorePath): SlipwayError {
  return new SlipwayError(
    'narinfo_invalid',
    `${info.storePath} needs ${missing}, which is not in this cache.`,
    {
      next: 'Push the whole closure. If Nix skips it because it was there once: rm ~/.cache/nix/binary-cache-v*.sqlite',
      facts: { path: info.storePath, missing },
    },
  );
}

/** Garbage collection spares the path and what it references from now on; what was collected a moment ago is missed. */
async function rescueNeeded(
  transaction: Transaction<Schema>,
  { cache, info, complete }: PathWrite,
): Promise<void> {
  const needed = info.references.filter((reference) => reference !== info.storePath);
  const hashes = [info.storePath, ...needed].map(storePathHash);
  const present = await rescuePaths(transaction, cache.id, [...new Set(hashes)], Date.now());
  const missing = complete ? needed.find((reference) => !present.has(storePathHash(reference))) : undefined;
  if (missing !== undefined) throw missingReference(info, missing);
}

/** What uploaders signed, each once and the first ones when there are many; then the cache's own. */
export function mergeSignatures(foreign: readonly string[], own: readonly string[]): string[] {
  const kept = new Set(foreign.filter((signature) => !own.includes(signature)));
  return [...[...kept].slice(0, MOST_FOREIGN_SIGNATURES), ...own];
}

async function insertPath(
  transaction: Transaction<Schema>,
  { cache, info, contentId, own, writer }: PathWrite,
): Promise<void> {
  const now = Date.now();
  const narinfo = { ...info, signatures: mergeSignatures(info.signatures, own) };
  const row = {
    store_path: info.storePath,
    content_id: contentId,
    path_references: info.references.map(storePathBaseName).join(' '),
    deriver: info.deriver ?? null,
    ca: info.contentAddress ?? null,
    narinfo: formatNarInfo(narinfo),
    writer: writer.id,
    created_at: now,
    last_access_at: now,
    quarantined_at: null,
    tombstoned_at: null,
  };
  await transaction
    .insertInto('store_path')
    .values({ cache_id: cache.id, hash: storePathHash(info.storePath), ...row })
    .onConflict((conflict) => conflict.columns(['cache_id', 'hash']).doUpdateSet(row))
    .execute();
}

async function addSignatures(
  transaction: Transaction<Schema>,
  { cache, info, own }: PathWrite,
  held: NarInfo,
): Promise<void> {
  const signatures = mergeSignatures([...held.signatures, ...info.signatures], own);
  await transaction
    .updateTable('store_path')
    .set({ narinfo: formatNarInfo({ ...held, signatures }), last_access_at: Date.now() })
    .where('cache_id', '=', cache.id)
    .where('hash', '=', storePathHash(info.storePath))
    .execute();
}

/** What was fetched from an upstream may be let go and fetched again; what somebody has sent here may not. */
async function makeOwn(transaction: Transaction<Schema>, { cache, info, writer }: PathWrite): Promise<void> {
  if (writer.id.startsWith(UPSTREAM_WRITER)) return;
  await transaction
    .updateTable('store_path')
    .set({ writer: writer.id, created_at: Date.now() })
    .where('cache_id', '=', cache.id)
    .where('hash', '=', storePathHash(info.storePath))
    .where('writer', 'like', `${UPSTREAM_WRITER}%`)
    .execute();
}

async function recordOrigin(
  transaction: Transaction<Schema>,
  { cache, info, writer, way }: PathWrite,
): Promise<void> {
  await transaction
    .insertInto('path_origin')
    .values({
      cache_id: cache.id,
      hash: storePathHash(info.storePath),
      store_path: info.storePath,
      nar_hash: formatHash(info.narHash),
      writer: writer.id,
      writer_name: writer.name,
      token: writer.token,
      way,
      claims: writer.claims === undefined ? null : JSON.stringify(writer.claims),
      address: writer.address ?? null,
      signatures: info.signatures.slice(0, MOST_FOREIGN_SIGNATURES).join(' '),
      created_at: Date.now(),
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

async function recordConflict(
  transaction: Transaction<Schema>,
  { cache, info, writer }: PathWrite,
  held: NarInfo,
): Promise<SlipwayError> {
  await transaction
    .insertInto('path_conflict')
    .values({
      cache_id: cache.id,
      hash: storePathHash(info.storePath),
      store_path: info.storePath,
      held_nar_hash: formatHash(held.narHash),
      offered_nar_hash: formatHash(info.narHash),
      writer: writer.id,
      created_at: Date.now(),
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  return new SlipwayError(
    'conflict',
    `The cache holds ${info.storePath} with other contents (${formatHash(held.narHash)}) than these (${formatHash(info.narHash)}).`,
    {
      next: 'The first upload of a path wins. Find out which build is right: the package is not reproducible, or somebody tampers.',
      facts: { path: info.storePath, held: formatHash(held.narHash), offered: formatHash(info.narHash) },
    },
  );
}
