// Reads the paths of some caches into a graph, a page at a time, so that requests go on meanwhile. In the order of their
// contents, which is nearly that of their publication: rows then come off the disk one after another. By hash, each of a
// million would cost a seek.
import { sql } from 'kysely';
import { setImmediate as pause } from 'node:timers/promises';
import type { Database } from '../../storage/database.ts';
import { PathGraph } from './path-graph.ts';
import { referenceHashes } from './rescue-paths.ts';
import { UPSTREAM_WRITER } from '../writer.ts';

/** Content ids that a page covers: about as many paths. */
const IDS_A_PAGE = 500;

/** `progress` is called between pages and may throw to stop. */
export async function readPathGraph(
  database: Database,
  cacheIds: readonly number[],
  progress: () => Promise<void> = async () => await Promise.resolve(),
): Promise<PathGraph> {
  const graph = new PathGraph();
  for (const cacheId of cacheIds) {
    const last = await outermost(database, 'max');
    for (let from = await outermost(database, 'min'); from <= last; from += IDS_A_PAGE) {
      await progress();
      await readPage(database, { cacheId, from }, graph);
      await pause();
    }
  }
  return graph;
}

/** One at a time, each is a look at one end of an index; asked for together, all of it would be read. Nothing lies between them when there are no paths. */
async function outermost(database: Database, end: 'min' | 'max'): Promise<number> {
  const { id } = await database.read
    .selectFrom('store_path')
    .select((builder) => builder.fn[end]<number | null>('content_id').as('id'))
    .executeTakeFirstOrThrow();
  return id ?? (end === 'min' ? 0 : -1);
}

async function readPage(
  database: Database,
  { cacheId, from }: { readonly cacheId: number; readonly from: number },
  graph: PathGraph,
): Promise<void> {
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
    .where('store_path.content_id', '>=', from)
    .where('store_path.content_id', '<', from + IDS_A_PAGE)
    // A sum, so that no planner takes the index that begins with the cache: it would read all of the cache for each page.
    .where(sql<number>`store_path.cache_id + 0`, '=', cacheId)
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
}
