// GET /metrics: everything that is counted, for Prometheus. Who may see the status page may see it.
import { Hono } from 'hono';
import { dedupRatio, type StorageFigures } from '../cache/storage-figures.ts';
import type { Fleet } from '../fleet/fleet.ts';
import { formatMetrics, snapshot, type Metric, type Sample } from '../util/metrics.ts';
import type { AppEnv } from './peer.ts';
import type { ViewAccess } from './view-access.ts';

export interface MetricsParts {
  readonly fleet: Fleet;
  readonly access: ViewAccess;
  /** What is counted while requests are served. */
  readonly metrics: readonly Metric[];
  readonly readFigures: () => Promise<StorageFigures>;
}

/** Sizes are read anew after this time: reading them looks at every row, which takes seconds when there are a million. */
const FIGURES_TTL_MS = 300_000;

export function metricsRoute(parts: MetricsParts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const read = remembered(parts.readFigures);
  app.get('/metrics', async (c) => {
    await parts.access.assertMayView(c);
    const metrics = [...parts.metrics, ...storageMetrics(await read()), ...(await fleetMetrics(parts.fleet))];
    c.header('content-type', 'text/plain; version=0.0.4; charset=utf-8');
    return c.body(formatMetrics([...metrics, ...processMetrics()]));
  });
  return app;
}

/** Nobody waits for figures that are only old: they are told, and read anew for the next who asks. */
function remembered(read: () => Promise<StorageFigures>): () => Promise<StorageFigures> {
  let last: StorageFigures | undefined;
  let readAt = 0;
  let reading: Promise<StorageFigures> | undefined;
  const refresh = async (): Promise<StorageFigures> => {
    try {
      last = await read();
      readAt = performance.now();
      return last;
    } finally {
      reading = undefined;
    }
  };
  return async () => {
    if (last !== undefined && performance.now() - readAt < FIGURES_TTL_MS) return last;
    reading ??= refresh();
    reading.catch(() => undefined); // the next who asks tries again
    return last ?? (await reading);
  };
}

function storageMetrics(figures: StorageFigures): Metric[] {
  const byCache = (value: (cache: StorageFigures['caches'][number]) => number): Sample[] =>
    figures.caches.map((cache) => ({ labels: { cache: cache.name }, value: value(cache) }));
  const ratio = dedupRatio(figures);
  return [
    snapshot(
      { name: 'slipway_cache_paths', help: 'Published paths.' },
      byCache(({ paths }) => paths),
    ),
    snapshot(
      { name: 'slipway_cache_nar_bytes', help: 'Sum of the NARs of published paths.' },
      byCache(({ narBytes }) => narBytes),
    ),
    snapshot(
      { name: 'slipway_cache_tombstoned_paths', help: 'Paths that garbage collection is about to remove.' },
      byCache(({ tombstoned }) => tombstoned),
    ),
    snapshot(
      {
        name: 'slipway_cache_conflicts',
        help: 'Times that somebody offered other bytes for a published path.',
      },
      byCache(({ conflicts }) => conflicts),
    ),
    one('slipway_storage_pack_bytes', 'Bytes of all packs: what is stored.', figures.packBytes),
    one('slipway_storage_packs', 'Packs in storage.', figures.packs),
    one('slipway_storage_contents', 'Distinct NARs, logs and listings.', figures.contents),
    one('slipway_storage_content_bytes', 'Sum of their sizes, uncompressed.', figures.contentBytes),
    one(
      'slipway_storage_damaged_contents',
      'Contents that count as absent because a chunk is damaged.',
      figures.damagedContents,
    ),
    one('slipway_storage_dedup_ratio', 'Bytes of published NARs for each stored byte.', ratio ?? Number.NaN),
    one(
      'slipway_cache_uploads_waiting',
      'Uploaded NARs that no narinfo has claimed yet.',
      figures.uploadsWaiting,
    ),
    one('slipway_cache_pins', 'Pins.', figures.pins),
    ...collectionMetrics(figures.lastCollection),
  ];
}

function collectionMetrics(last: StorageFigures['lastCollection']): Metric[] {
  if (last === undefined) return [];
  const { paths, chunks, packs } = last;
  const removed = [
    { labels: { what: 'paths' }, value: paths.removed },
    { labels: { what: 'contents' }, value: last.contents?.contents ?? 0 },
    { labels: { what: 'chunks' }, value: chunks?.removed ?? 0 },
    { labels: { what: 'packs' }, value: packs?.removed ?? 0 },
  ];
  return [
    one('slipway_gc_last_end_timestamp_seconds', 'When garbage was last collected.', last.endedAt / 1000),
    one('slipway_gc_last_duration_seconds', 'How long that took.', (last.endedAt - last.startedAt) / 1000),
    snapshot({ name: 'slipway_gc_last_removed', help: 'What the last collection removed.' }, removed),
    one('slipway_gc_last_removed_bytes', 'Bytes of packs that it removed.', packs?.removedBytes ?? 0),
    one('slipway_gc_last_kept_paths', 'Paths that it kept.', paths.kept),
  ];
}

async function fleetMetrics(fleet: Fleet): Promise<Metric[]> {
  const { hosts, runs } = await fleet.readStatus();
  const now = Date.now();
  return [
    snapshot(
      {
        name: 'slipway_hosts',
        help: 'Hosts by how they get systems, whether they have the newest, and how they are.',
      },
      counted(hosts.map(({ mode, sync, health }) => ({ mode, sync, health }))),
    ),
    one(
      'slipway_hosts_silent',
      'Hosts whose agent has not reported in time.',
      hosts.filter((host) => Date.parse(host.silentAfter ?? '') < now).length,
    ),
    snapshot(
      { name: 'slipway_runs', help: 'The newest runs by state.' },
      counted(runs.map(({ state }) => ({ state }))),
    ),
  ];
}

function processMetrics(): Metric[] {
  const { user, system } = process.cpuUsage();
  return [
    one('process_resident_memory_bytes', 'Resident memory.', process.memoryUsage.rss()),
    snapshot({ name: 'process_cpu_seconds_total', help: 'CPU time.', type: 'counter' }, [
      { labels: {}, value: (user + system) / 1e6 },
    ]),
    one('process_start_time_seconds', 'When the process started.', Date.now() / 1000 - process.uptime()),
  ];
}

function one(name: string, help: string, value: number): Metric {
  return snapshot({ name, help }, [{ labels: {}, value }]);
}

function counted(labelled: readonly Readonly<Record<string, string>>[]): Sample[] {
  const groups = Map.groupBy(labelled, (labels) => JSON.stringify(labels));
  return [...groups.values()].flatMap(([labels, ...more]) =>
    labels === undefined ? [] : [{ labels, value: more.length + 1 }],
  );
}
