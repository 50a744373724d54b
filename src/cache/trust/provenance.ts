// Who wrote what: the origins of a path over a cache and its overlays, and the conflicts that were refused.
import type { Database } from '../../storage/database.ts';
import type { Cache } from '../cache-registry.ts';

const MOST_ROWS = 1000;

export interface Origin {
  /** The cache, or the overlay, that it was written to. */
  readonly cache: string;
  readonly storePath: string;
  readonly narHash: string;
  readonly writer: string;
  readonly writerName: string;
  readonly token: string;
  /** `push`, or why it was published from an overlay: `promoted:<rule>`. */
  readonly way: string;
  readonly claims: Readonly<Record<string, string>> | undefined;
  readonly address: string | undefined;
  readonly signatures: readonly string[];
  /** Milliseconds since 1970. */
  readonly at: number;
  /** Whether what this writer sent is held back since it was revoked. */
  readonly quarantined: boolean;
}

/** All that is known of where a path came from, oldest first. */
export async function findOrigins(database: Database, cache: Cache, hash: string): Promise<Origin[]> {
  const rows = await database.read
    .selectFrom('path_origin')
    .innerJoin('cache', 'cache.id', 'path_origin.cache_id')
    .leftJoin('store_path', (join) =>
      join
        .onRef('store_path.cache_id', '=', 'path_origin.cache_id')
        .onRef('store_path.hash', '=', 'path_origin.hash'),
    )
    .selectAll('path_origin')
    .select(['cache.name as cache_name', 'store_path.quarantined_at', 'store_path.writer as holder'])
    .where((where) => where.or([where('cache.id', '=', cache.id), where('cache.base_id', '=', cache.id)]))
    .where('path_origin.hash', '=', hash)
    .orderBy('path_origin.id')
    .limit(MOST_ROWS)
    .execute();
  return rows.map((row) => ({
    cache: row.cache_name,
    storePath: row.store_path,
    narHash: row.nar_hash,
    writer: row.writer,
    writerName: row.writer_name,
    token: row.token,
    way: row.way,
    claims: row.claims === null ? undefined : (JSON.parse(row.claims) as Record<string, string>),
    address: row.address ?? undefined,
    signatures: row.signatures === '' ? [] : row.signatures.split(' '),
    at: row.created_at,
    quarantined: row.quarantined_at !== null && row.holder === row.writer,
  }));
}

export interface Conflict {
  readonly cache: string;
  readonly storePath: string;
  readonly heldNarHash: string;
  readonly offeredNarHash: string;
  /** Who wrote what is held. */
  readonly holder: string | undefined;
  /** Who offered something else. */
  readonly writer: string;
  readonly at: number;
}

/** What was offered and refused because the path is there with other contents, newest first. */
export async function listConflicts(database: Database, cache: Cache): Promise<Conflict[]> {
  const rows = await database.read
    .selectFrom('path_conflict')
    .innerJoin('cache', 'cache.id', 'path_conflict.cache_id')
    .leftJoin('store_path', (join) =>
      join
        .onRef('store_path.cache_id', '=', 'path_conflict.cache_id')
        .onRef('store_path.hash', '=', 'path_conflict.hash'),
    )
    .selectAll('path_conflict')
    .select(['cache.name as cache_name', 'store_path.writer as holder'])
    .where((where) => where.or([where('cache.id', '=', cache.id), where('cache.base_id', '=', cache.id)]))
    .orderBy('path_conflict.id', 'desc')
    .limit(MOST_ROWS)
    .execute();
  return rows.map((row) => ({
    cache: row.cache_name,
    storePath: row.store_path,
    heldNarHash: row.held_nar_hash,
    offeredNarHash: row.offered_nar_hash,
    holder: row.holder ?? undefined,
    writer: row.writer,
    at: row.created_at,
  }));
}
