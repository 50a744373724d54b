// How much a cache holds, and how much of the disk that takes once what is shared is stored once.
import type { Database } from '../storage/database.ts';
import type { Cache } from './cache-registry.ts';

export interface CacheStatistics {
  readonly paths: number;
  /** Sum of the NARs' sizes. */
  readonly narBytes: number;
  /** Bytes of all packs of this server; caches share them. */
  readonly packBytes: number;
  readonly conflicts: number;
}

export async function readStatistics(database: Database, cache: Cache): Promise<CacheStatistics> {
  const { read } = database;
  const paths = await read
    .selectFrom('store_path')
    .innerJoin('content', 'content.id', 'store_path.content_id')
    .select((builder) => [
      builder.fn.countAll<number>().as('count'),
      builder.fn.sum<number | null>('content.size').as('bytes'),
    ])
    .where('store_path.cache_id', '=', cache.id)
    .executeTakeFirstOrThrow();
  const packs = await read
    .selectFrom('pack')
    .select((builder) => builder.fn.sum<number | null>('size').as('bytes'))
    .executeTakeFirstOrThrow();
  const conflicts = await read
    .selectFrom('path_conflict')
    .select((builder) => builder.fn.countAll<number>().as('count'))
    .where('cache_id', '=', cache.id)
    .executeTakeFirstOrThrow();
  return {
    paths: paths.count,
    narBytes: paths.bytes ?? 0,
    packBytes: packs.bytes ?? 0,
    conflicts: conflicts.count,
  };
}
