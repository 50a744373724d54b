// How much a cache keeps of its upstreams, and whether that is more than it may.
import { sql, type RawBuilder, type SqlBool } from 'kysely';
import type { Database } from '../../storage/database.ts';
import type { Cache } from '../cache-registry.ts';
import { UPSTREAM_WRITER } from '../writer.ts';

export interface PulledFigures {
  readonly paths: number;
  /** Sum of their NARs. */
  readonly bytes: number;
}

/** Without what garbage collection is about to remove. */
export async function readPulled(
  { database }: { readonly database: Database },
  cache: Pick<Cache, 'id'>,
): Promise<PulledFigures> {
  const row = await database.read
    .selectFrom('store_path')
    .innerJoin('content', 'content.id', 'store_path.content_id')
    .select((builder) => [
      builder.fn.countAll<number>().as('paths'),
      builder.fn.sum<number | null>('content.size').as('bytes'),
    ])
    .where('store_path.cache_id', '=', cache.id)
    .where('store_path.writer', '>=', UPSTREAM_WRITER)
    .where('store_path.writer', '<', AFTER_UPSTREAMS)
    .where('store_path.tombstoned_at', 'is', null)
    .executeTakeFirstOrThrow();
  return { paths: row.paths, bytes: row.bytes ?? 0 };
}

/** Whether a cache keeps more of upstreams than it may, or has let go of some that can be removed since `expiredAt`. */
export async function isOverPulledLimit(database: Database, expiredAt: number): Promise<boolean> {
  const caches = await database.read
    .selectFrom('cache')
    .select(['id', 'borrowed_bytes'])
    .where('borrowed_bytes', 'is not', null)
    .execute();
  for (const { id, borrowed_bytes } of caches) {
    if ((await readPulled({ database }, { id })).bytes > (borrowed_bytes ?? Infinity)) return true;
    const expired = await database.read
      .selectFrom('store_path')
      .select('hash')
      .where('cache_id', '=', id)
      .where('writer', '>=', UPSTREAM_WRITER)
      .where('writer', '<', AFTER_UPSTREAMS)
      .where('tombstoned_at', '<=', expiredAt)
      .limit(1)
      .executeTakeFirst();
    if (expired !== undefined) return true;
  }
  return false;
}

/** `value` for a row of `store_path` that came from an upstream, else nothing: to be summed. */
export function valueIfPulled(value: RawBuilder<unknown>): RawBuilder<number> {
  return sql`case when store_path.writer >= ${UPSTREAM_WRITER} and store_path.writer < ${AFTER_UPSTREAMS} then ${value} else 0 end`;
}

/** Whether the writer of a row is an upstream. */
export function isPulled(column: 'writer'): RawBuilder<SqlBool> {
  return sql<SqlBool>`${sql.ref(column)} >= ${UPSTREAM_WRITER} and ${sql.ref(column)} < ${AFTER_UPSTREAMS}`;
}

/** The first text that is no longer behind the prefix. */
const AFTER_UPSTREAMS = 'upstream;';
