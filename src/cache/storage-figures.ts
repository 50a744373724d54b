// How much the caches hold and how much room that takes, over all caches: for metrics and `slipway cache stats`.
// Read a page at a time, because a million rows in one query would hold up every request.
import { setImmediate as pause } from 'node:timers/promises';
import { sql } from 'kysely';
import type { Database } from '../storage/database.ts';
import type { GarbageReport } from './garbage/collect-garbage.ts';
import { readLookups, type LookupFigures } from './lookup-tally.ts';
import { valueIfPulled } from './sources/pulled-figures.ts';

const IDS_A_PAGE = 1000;

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
  /** Of the paths: what was fetched from upstreams. */
  readonly pulledPaths: number;
  readonly pulledBytes: number;
  /** How often narinfos were asked for, and were there; undefined when none was asked for. */
  readonly lookups: LookupFigures | undefined;
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
  for await (const page of pages(database)) {
    const row = await database.read
      .selectFrom('content')
      .select((builder) => [
        builder.fn.countAll<number>().as('count'),
        builder.fn.sum<number | null>('size').as('bytes'),
        builder.fn.count<number>('damaged_at').as('damaged'),
      ])
      .where('id', '>=', page.from)
      .where('id', '<', page.to)
      .executeTakeFirstOrThrow();
    total.count += row.count;
    total.bytes += row.bytes ?? 0;
    total.damaged += row.damaged;
  }
  return total;
}

interface Page {
  readonly from: number;
  readonly to: number;
}

/** Ranges of content ids that cover all of them. */
async function* pages(database: Database): AsyncGenerator<Page> {
  const { last } = await database.read
    .selectFrom('content')
    .select((builder) => builder.fn.max<number | null>('id').as('last'))
    .executeTakeFirstOrThrow();
  for (let from = 0; from <= (last ?? -1); from += IDS_A_PAGE) {
    yield { from, to: from + IDS_A_PAGE };
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
  const paths = await pathFigures(database);
  const lookups = await readLookups(database);
  return caches.map(({ id, name }) => ({
    name,
    conflicts: counts.get(id) ?? 0,
    ...(paths.get(id) ?? NO_PATHS),
    lookups: lookups.get(id),
  }));
}

type PathFigures = Pick<CacheFigures, 'paths' | 'narBytes' | 'tombstoned' | 'pulledPaths' | 'pulledBytes'>;

const NO_PATHS: PathFigures = { paths: 0, narBytes: 0, tombstoned: 0, pulledPaths: 0, pulledBytes: 0 };

/** By cache. In the order of contents, in which rows lie on the disk: see read-path-graph.ts. */
async function pathFigures(database: Database): Promise<ReadonlyMap<number, PathFigures>> {
  const totals = new Map<number, PathFigures>();
  for await (const page of pages(database)) {
    const rows = await database.read
      .selectFrom('content')
      .innerJoin('store_path', 'store_path.content_id', 'content.id')
      .select((builder) => [
        'store_path.cache_id',
        builder.fn.countAll<number>().as('paths'),
        builder.fn.sum<number>('content.size').as('bytes'),
        builder.fn.count<number>('store_path.tombstoned_at').as('tombstoned'),
        builder.fn.sum<number>(valueIfPulled(sql`1`)).as('pulledPaths'),
        builder.fn.sum<number>(valueIfPulled(sql`content.size`)).as('pulledBytes'),
      ])
      .where('content.id', '>=', page.from)
      .where('content.id', '<', page.to)
      .groupBy('store_path.cache_id')
      .execute();
    for (const row of rows) {
      const before = totals.get(row.cache_id) ?? NO_PATHS;
      totals.set(row.cache_id, {
        paths: before.paths + row.paths,
        narBytes: before.narBytes + row.bytes,
        tombstoned: before.tombstoned + row.tombstoned,
        pulledPaths: before.pulledPaths + row.pulledPaths,
        pulledBytes: before.pulledBytes + row.pulledBytes,
      });
    }
  }
  return totals;
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
