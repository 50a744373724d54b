// Reads the paths of some caches into a graph, a page at a time, so that requests go on meanwhile.
import { setImmediate as pause } from 'node:timers/promises';
import type { Database } from '../storage/database.ts';
import { PathGraph } from './path-graph.ts';
import { referenceHashes } from './rescue-paths.ts';

const ROWS_A_PAGE = 1000;

/** Writers of paths that were fetched from upstreams have this prefix. */
export const UPSTREAM_WRITER = 'upstream:';

export async function readPathGraph(database: Database, cacheIds: readonly number[]): Promise<PathGraph> {
  const graph = new PathGraph();
  for (const cacheId of cacheIds) await readCache(database, cacheId, graph);
  return graph;
}

async function readCache(database: Database, cacheId: number, graph: PathGraph): Promise<void> {
  for (let after = ''; ;) {
    const rows = await database.read
      .selectFrom('store_path')
      .innerJoin('content', 'content.id', 'store_path.content_id')
      .select([
        'store_path.hash',
        'path_references',
        'writer',
        'store_path.created_at',
        'last_access_at',
        'tombstoned_at',
        'content.size',
      ])
      .where('cache_id', '=', cacheId)
      .where('store_path.hash', '>', after)
      .orderBy('store_path.hash')
      .limit(ROWS_A_PAGE)
      .execute();
    for (const row of rows)
      graph.add({
        cacheId,
        hash: row.hash,
        references: referenceHashes(row.path_references),
        createdAt: row.created_at,
        lastUsedAt: row.last_access_at,
        tombstonedAt: row.tombstoned_at ?? undefined,
        size: row.size,
        borrowed: row.writer.startsWith(UPSTREAM_WRITER),
      });
    const last = rows.at(-1);
    if (last === undefined || rows.length < ROWS_A_PAGE) return;
    after = last.hash;
    await pause();
  }
}
