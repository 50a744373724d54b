// How much the caches hold and how much room that takes, over all caches: for metrics and `slipway cache stats`.
// Read a page at a time, because a million rows in one query would hold up every request.
import { setImmediate as pause } from 'node:timers/promises';
import type { Database } from '../storage/database.ts';
import type { GarbageReport } from './collect-garbage.ts';

const ROWS_A_PAGE = 2000;

export interface StorageFigures {
  /** Distinct contents (NARs, logs) and the sum of their sizes. */
  readonly contents: number;
  readonly contentBytes: number;
  /** What is published, as if nothing were shared: each path of each cache counts with its whole NAR. */
  readonly caches: readonly CacheFigures[];
  readonly packs: number;
  /** What is on the disk or in the bucket. */
  readonly packBytes: number;
  readonly uploadsWaiting: number;
  readonly damagedContents: number;
  readonly pins: number;
  readonly lastCollection: GarbageReport | undefined;
}

export interface CacheFigures {
  readonly name: string;
  readonly paths: number;
  readonly narBytes: number;
  readonly tombstoned: number;
  readonly conflicts: number;
}

export async function readStorageFigures(database: Database): Promise<StorageFigures> {
  const sizes = await contentSizes(database);
  return {
    contents: sizes.count,
    contentBytes: sizes.bytes,
    damagedContents: sizes.damaged,
    caches: await cacheFigures(database),
    ...(await packFigures(database)),
    uploadsWaiting: await countUploads(database),
    pins: (await database.read.selectFrom('pin').select('name').distinct().execute()).length,
    lastCollection: await lastCollection(database),
  };
}

/** How many bytes of NARs one stored byte holds; undefined while nothing is stored. */
export function dedupRatio(figures: StorageFigures): number | undefined {
  if (figures.packBytes === 0) return undefined;
  return figures.caches.reduce((sum, { narBytes }) => sum + narBytes, 0) / figures.packBytes;
}

async function contentSizes(database: Database): Promise<{ count: number; bytes: number; damaged: number }> {
  const total = { count: 0, bytes: 0, damaged: 0 };
  for (let after = 0; ;) {
    const rows = await database.read
      .selectFrom('content')
      .select(['id', 'size', 'damaged_at'])
      .where('id', '>', after)
      .orderBy('id')
      .limit(ROWS_A_PAGE)
      .execute();
    for (const row of rows) {
      total.count++;
      total.bytes += row.size;
      if (row.damaged_at !== null) total.damaged++;
    }
    const last = rows.at(-1);
    if (last === undefined || rows.length < ROWS_A_PAGE) return total;
    after = last.id;
    await pause();
  }
}

async function cacheFigures(database: Database): Promise<CacheFigures[]> {
  const caches = await database.read.selectFrom('cache').select(['id', 'name']).orderBy('name').execute();
  const conflicts = await database.read
    .selectFrom('path_conflict')
    .select((builder) => ['cache_id', builder.fn.countAll<number>().as('count')])
    .groupBy('cache_id')
    .execute();
  const counts = new Map(conflicts.map((row) => [row.cache_id, row.count]));
  const figures: CacheFigures[] = [];
  for (const { id, name } of caches)
    figures.push({ name, conflicts: counts.get(id) ?? 0, ...(await pathFigures(database, id)) });
  return figures;
}

async function pathFigures(
  database: Database,
  cacheId: number,
): Promise<Pick<CacheFigures, 'paths' | 'narBytes' | 'tombstoned'>> {
  const total = { paths: 0, narBytes: 0, tombstoned: 0 };
  for (let after = ''; ;) {
    const rows = await database.read
      .selectFrom('store_path')
      .innerJoin('content', 'content.id', 'store_path.content_id')
      .select(['store_path.hash', 'content.size', 'tombstoned_at'])
      .where('cache_id', '=', cacheId)
      .where('store_path.hash', '>', after)
      .orderBy('store_path.hash')
      .limit(ROWS_A_PAGE)
      .execute();
    for (const row of rows) {
      total.paths++;
      total.narBytes += row.size;
      if (row.tombstoned_at !== null) total.tombstoned++;
    }
    const last = rows.at(-1);
    if (last === undefined || rows.length < ROWS_A_PAGE) return total;
    after = last.hash;
    await pause();
  }
}

async function packFigures(database: Database): Promise<{ packs: number; packBytes: number }> {
  const row = await database.read
    .selectFrom('pack')
    .select((builder) => [
      builder.fn.countAll<number>().as('packs'),
      builder.fn.sum<number | null>('size').as('bytes'),
    ])
    .where((where) => where.or([where('retired_at', 'is', null), where('retired_at', '>=', 0)]))
    .executeTakeFirstOrThrow();
  return { packs: row.packs, packBytes: row.bytes ?? 0 };
}

async function countUploads(database: Database): Promise<number> {
  const row = await database.read
    .selectFrom('nar_upload')
    .select((builder) => builder.fn.countAll<number>().as('count'))
    .where('expires_at', 'is not', null)
    .executeTakeFirstOrThrow();
  return row.count;
}

async function lastCollection(database: Database): Promise<GarbageReport | undefined> {
  const row = await database.read
    .selectFrom('garbage_run')
    .select('report')
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst();
  return row === undefined ? undefined : (JSON.parse(row.report) as GarbageReport);
}
