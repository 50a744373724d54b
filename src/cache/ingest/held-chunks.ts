// Which chunks an uploader need not send: those of paths in caches that it may read, and those that it has sent itself.
// Of all others it is told nothing, whether they are here or not: it sends them, and learns no more than that it did.
import { setImmediate as pause } from 'node:timers/promises';
import type { Kysely, SelectQueryBuilder, Transaction } from 'kysely';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { SlipwayError } from '../../util/errors.ts';
import {
  chunkKey,
  hashBatches,
  STORED_CHUNK_COLUMNS,
  storedChunkOf,
  type StoredChunk,
} from '../stored-chunks.ts';

/** How long what was sent waits for the rest of its NAR. */
const STAGED_LIFE_MS = 24 * 3600 * 1000;
const STAGED_A_QUERY = 2000;

/** Whose knowledge counts. */
export interface ChunkScope {
  /** Ids of the caches that the uploader may read. */
  readonly readable: readonly number[];
  /** The cache that it writes to. */
  readonly cacheId: number;
  readonly writer: string;
}

/** Those of `hashes` that need not be sent. What garbage collection has marked is better sent again. */
export async function findKnownChunks(
  database: Database,
  scope: ChunkScope,
  hashes: readonly Uint8Array[],
): Promise<Set<string>> {
  const known = new Set<string>();
  for (const batch of hashBatches(hashes)) {
    const rows = await inScope(database.read.selectFrom('chunk'), scope, batch)
      .select('chunk.hash')
      .where('orphaned_at', 'is', null)
      .execute();
    for (const row of rows) known.add(chunkKey(row.hash));
  }
  return known;
}

/** Where `hashes` are; those that are out of scope are left out like those that are not there. */
export async function findHeldChunks(
  database: Database,
  scope: ChunkScope,
  hashes: readonly Uint8Array[],
): Promise<StoredChunk[]> {
  const chunks: StoredChunk[] = [];
  for (const batch of hashBatches(hashes)) {
    const rows = await inScope(database.read.selectFrom('chunk'), scope, batch)
      .innerJoin('pack', 'pack.id', 'chunk.pack_id')
      .select(STORED_CHUNK_COLUMNS)
      .execute();
    chunks.push(...rows.map(storedChunkOf));
  }
  return chunks;
}

/** Those of `hashes` that are stored intact and to stay, whoever may know of it: for what is not told to anybody. */
export async function findStoredChunks(
  database: Database,
  hashes: readonly Uint8Array[],
): Promise<Set<string>> {
  const stored = new Set<string>();
  for (const batch of hashBatches(hashes)) {
    const rows = await database.read
      .selectFrom('chunk')
      .select('hash')
      .where('hash', 'in', batch)
      .where('damaged_at', 'is', null)
      .where('orphaned_at', 'is', null)
      .execute();
    for (const row of rows) stored.add(chunkKey(row.hash));
  }
  return stored;
}

/** Notes that a writer has sent these chunks. */
export async function stageChunks(
  transaction: Transaction<Schema>,
  { cacheId, writer }: ChunkScope,
  hashes: readonly Uint8Array[],
): Promise<void> {
  const expires_at = Date.now() + STAGED_LIFE_MS;
  for (const batch of hashBatches(hashes))
    await transaction
      .insertInto('staged_chunk')
      .values(batch.map((hash) => ({ hash, cache_id: cacheId, writer, expires_at })))
      .onConflict((conflict) => conflict.columns(['hash', 'cache_id', 'writer']).doUpdateSet({ expires_at }))
      .execute();
}

/** Notes that a path of the cache is made of these chunks; what its writer had staged of them needs no note any more. */
export async function noteChunks(
  transaction: Transaction<Schema>,
  { cacheId, writer }: ChunkScope,
  hashes: readonly Uint8Array[],
): Promise<void> {
  for (const batch of hashBatches(hashes)) {
    await transaction
      .insertInto('cache_chunk')
      .values(batch.map((hash) => ({ hash, cache_id: cacheId })))
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    await transaction
      .deleteFrom('staged_chunk')
      .where('hash', 'in', batch)
      .where('cache_id', '=', cacheId)
      .where('writer', '=', writer)
      .execute();
  }
}

/** Forgets what waited for too long; the chunks themselves are then garbage unless something else uses them. */
export async function dropExpiredChunks(database: Database, now: number): Promise<number> {
  const { numDeletedRows } = await database.write(
    async (transaction) =>
      await transaction.deleteFrom('staged_chunk').where('expires_at', '<', now).executeTakeFirst(),
  );
  return Number(numDeletedRows);
}

/** A page of the chunks that wait, in order; garbage collection spares them. */
export async function stagedChunks(
  db: Kysely<Schema>,
  after: Uint8Array,
  limit: number,
): Promise<Uint8Array[]> {
  const rows = await db
    .selectFrom('staged_chunk')
    .select('hash')
    .distinct()
    .where('hash', '>', after)
    .orderBy('hash')
    .limit(limit)
    .execute();
  return rows.map(({ hash }) => hash);
}

/** Bytes of the chunks that wait in a cache, each once, whoever has sent it. */
export async function stagedBytes({ read }: Database, cacheId: number): Promise<number> {
  let bytes = 0;
  for (let after: Uint8Array = new Uint8Array(); ;) {
    const rows = await read
      .selectFrom('staged_chunk')
      .innerJoin('chunk', 'chunk.hash', 'staged_chunk.hash')
      .select(['staged_chunk.hash', 'chunk.raw_length'])
      .distinct()
      .where('staged_chunk.cache_id', '=', cacheId)
      .where('staged_chunk.hash', '>', after)
      .orderBy('staged_chunk.hash')
      .limit(STAGED_A_QUERY)
      .execute();
    for (const { raw_length } of rows) bytes += raw_length;
    const last = rows.at(-1);
    if (last === undefined || rows.length < STAGED_A_QUERY) return bytes;
    after = last.hash;
    await pause();
  }
}

/** The same words whether the chunk is not there or not for this uploader. */
export function absentChunk(): SlipwayError {
  return new SlipwayError(
    'conflict',
    'The upload counts on a chunk that was neither sent nor is held for it.',
    {
      next: 'Push it again: what is missing is then found and sent.',
      facts: { absent: true },
    },
  );
}

function inScope<S>(
  chunks: SelectQueryBuilder<Schema, 'chunk', S>,
  { readable, cacheId, writer }: ChunkScope,
  hashes: readonly Uint8Array[],
): SelectQueryBuilder<Schema, 'chunk', S> {
  return chunks
    .where('chunk.hash', 'in', hashes)
    .where('damaged_at', 'is', null)
    .where((where) =>
      where.or([
        where.exists(
          where
            .selectFrom('cache_chunk')
            .select('cache_chunk.hash')
            .whereRef('cache_chunk.hash', '=', 'chunk.hash')
            .where('cache_chunk.cache_id', 'in', readable),
        ),
        where.exists(
          where
            .selectFrom('staged_chunk')
            .select('staged_chunk.hash')
            .whereRef('staged_chunk.hash', '=', 'chunk.hash')
            .where('staged_chunk.cache_id', '=', cacheId)
            .where('staged_chunk.writer', '=', writer)
            .where('staged_chunk.expires_at', '>', Date.now()),
        ),
      ]),
    );
}
