// All paths that a cache holds, a page at a time in the order of their hashes: what mirrors go by.
import type { Database } from '../storage/database.ts';
import type { Cache } from './cache-registry.ts';

const ROWS_A_PAGE = 1000;
/** Paths with thousands of references have narinfos of 100 kB: a page is as short as it must be. */
const BYTES_A_PAGE = 1024 * 1024;

export interface PathPage {
  readonly paths: readonly { readonly hash: string; readonly narinfo: string }[];
  /** Where the next page begins; undefined: this was the last. */
  readonly next: string | undefined;
}

/** Paths whose hash comes after `after`; the empty text: from the first. */
export async function listPaths(database: Database, cache: Cache, after: string): Promise<PathPage> {
  const rows = await database.read
    .selectFrom('store_path')
    .innerJoin('content', 'content.id', 'store_path.content_id')
    .select(['store_path.hash', 'store_path.narinfo'])
    .where('store_path.cache_id', '=', cache.id)
    .where('store_path.hash', '>', after)
    .where('store_path.quarantined_at', 'is', null)
    .where('content.damaged_at', 'is', null)
    .orderBy('store_path.hash')
    .limit(ROWS_A_PAGE)
    .execute();
  let bytes = 0;
  const fitting = rows.findIndex(({ narinfo }) => (bytes += narinfo.length) > BYTES_A_PAGE);
  const paths = fitting === -1 ? rows : rows.slice(0, Math.max(1, fitting));
  const isLast = paths.length === rows.length && rows.length < ROWS_A_PAGE;
  return { paths, next: isLast ? undefined : paths.at(-1)?.hash };
}
