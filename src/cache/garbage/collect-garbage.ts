// Garbage collection, from paths down to bytes: what nothing keeps is tombstoned, what was tombstoned long enough is
// removed, contents without a name go, chunks without a content are marked and later removed, packs with little left
// are rewritten. Every step asks again before it removes, works in small transactions, and may be cut off anywhere.
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import { SlipwayError } from '../../util/errors.ts';
import { applyPathPlan } from './apply-path-plan.ts';
import { collectChunks, type ChunkCollection } from './collect-chunks.ts';
import {
  collectContents,
  collectLogs,
  collectPulledFiles,
  type ContentCollection,
} from './collect-contents.ts';
import { collectPacks, type PackCollection } from './collect-packs.ts';
import { readRoots, type RootPolicy } from './gc-roots.ts';
import { takeLease } from './lease.ts';
import { planGc, type GcPlan, type Retention } from './plan-gc.ts';
import { readPathGraph } from './read-path-graph.ts';
import { sweep } from './sweep.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

export interface GarbageSettings {
  readonly roots: RootPolicy;
  /** For caches that do not say; undefined: for ever. */
  readonly keepMs: number | undefined;
  /** Between tombstone and removal of a path. */
  readonly graceMs: number;
  /** Between mark and removal of a chunk: longer than any upload takes. */
  readonly chunkGraceMs: number;
  /** Between retiring a pack and removing it: longer than any download takes. */
  readonly packGraceMs: number;
  /** Paths and packs younger than this are not looked at. */
  readonly youngMs: number;
  /** Packs with fewer bytes together wait for a day before they are settled. */
  readonly settleBytes: number;
}

export const DEFAULT_GARBAGE_SETTINGS: GarbageSettings = {
  roots: { releases: 5, generations: 3 },
  keepMs: undefined,
  graceMs: 72 * HOUR,
  chunkGraceMs: 24 * HOUR,
  packGraceMs: 2 * HOUR,
  youngMs: HOUR,
  settleBytes: 16 * 1024 * 1024,
};

/** What upstreams have can be fetched again, so its tombstones need not wait for clients. */
export const BORROWED_GRACE_MS = HOUR;

/** The shortest sound grace: what servers remember of narinfos and of uses is younger (narinfo-lookup.ts, access-times.ts). */
export const SHORTEST_GRACE_MS = 5 * MINUTE;

export interface GarbageParts {
  readonly database: Database;
  readonly blobs: BlobStore;
  /** Writes down the uses that this process remembers. */
  readonly flushUses?: () => Promise<void>;
}

export interface GarbageReport {
  readonly startedAt: number;
  readonly endedAt: number;
  readonly dryRun: boolean;
  readonly roots: number;
  readonly paths: {
    readonly kept: number;
    readonly tombstoned: number;
    readonly revived: number;
    readonly waiting: number;
    readonly removed: number;
  };
  readonly logs: number;
  readonly contents: ContentCollection | undefined;
  readonly chunks: ChunkCollection | undefined;
  readonly packs: PackCollection | undefined;
}

export interface GarbageOptions {
  readonly settings: GarbageSettings;
  /** Plans, and changes nothing. */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
  readonly now?: number;
  readonly onStep?: (step: GarbageStep) => void;
}

/** What is being looked at; of packs that are settled, how many bytes are done. */
export type GarbageStep =
  | { readonly what: 'paths' | 'contents' | 'chunks' | 'packs' }
  | { readonly what: 'settling'; readonly done: number; readonly all: number };

/** Collects once, until nothing is left to do. `conflict` when another process is at it. */
export async function collectGarbage(parts: GarbageParts, options: GarbageOptions): Promise<GarbageReport> {
  await using lease = await takeLease(parts.database, 'garbage');
  if (lease === undefined)
    throw new SlipwayError('conflict', 'Another process is collecting garbage on this storage.', {
      next: 'Wait for it; if it crashed, its lease ends within two minutes.',
    });
  const progress = async (): Promise<void> => {
    options.signal?.throwIfAborted();
    await lease.renew();
  };
  await parts.flushUses?.();
  const report = await collect(parts, options, progress);
  if (options.dryRun !== true) await remember(parts.database, report);
  return report;
}

async function collect(
  parts: GarbageParts,
  { settings, dryRun = false, now = Date.now(), onStep = () => undefined }: GarbageOptions,
  progress: () => Promise<void>,
): Promise<GarbageReport> {
  const startedAt = Date.now();
  const families = await readFamilies(parts.database, settings);
  const roots = new Set((await readRoots(parts.database, settings.roots)).map(({ hash }) => hash));
  const paths = { kept: 0, tombstoned: 0, revived: 0, waiting: 0, removed: 0 };
  let logs = 0;
  onStep({ what: 'paths' });
  for (const family of families) {
    await progress();
    await collectPaths(parts.database, { settings, dryRun, now, roots, family, progress }, paths);
    if (!dryRun) logs += await collectOldLogs(parts.database, family, now);
  }
  if (!dryRun) await collectPulledFiles(parts.database, now - PULLED_FILES_MS);
  // Packs that nobody names, left by what was cut off: another server's start may be far away.
  if (!dryRun) await sweep(parts.database, parts.blobs, { shared: true, now });
  const chunkOptions = { now, graceMs: settings.chunkGraceMs, progress, dryRun };
  const { youngMs, packGraceMs: graceMs, settleBytes } = settings;
  const onSettled = (done: number, all: number): void => onStep({ what: 'settling', done, all });
  const packOptions = { now, youngMs, graceMs, settleBytes, progress, onSettled };
  onStep({ what: 'contents' });
  const contents = dryRun ? undefined : await collectContents(parts.database, now, progress);
  onStep({ what: 'chunks' });
  const chunks = await collectChunks(parts.database, chunkOptions);
  onStep({ what: 'packs' });
  const packs = dryRun ? undefined : await collectPacks(parts, packOptions);
  const rest = { roots: roots.size, dryRun, paths, logs, contents, chunks, packs };
  return { startedAt, ...rest, endedAt: Date.now() };
}

interface PathCollection {
  readonly settings: GarbageSettings;
  readonly dryRun: boolean;
  readonly now: number;
  /** Hash parts of store paths. */
  readonly roots: ReadonlySet<string>;
  readonly family: Family;
  readonly progress: () => Promise<void>;
}

type PathCounts = { -readonly [K in keyof GarbageReport['paths']]: number };

/** A function of its own: the graph of a family is out of memory when the next one, or the chunks, are read. */
async function collectPaths(
  database: Database,
  { settings, dryRun, now, roots, family, progress }: PathCollection,
  counts: PathCounts,
): Promise<void> {
  const { graceMs, youngMs } = settings;
  const borrowedGraceMs = Math.min(graceMs, BORROWED_GRACE_MS);
  const plan = planGc(await readPathGraph(database, [...family.keys()], progress), {
    now,
    roots,
    retention: family,
    graceMs,
    borrowedGraceMs,
    youngMs,
  });
  count(counts, plan);
  const times = { now, expiredAt: now - borrowedGraceMs };
  counts.removed += dryRun ? plan.remove.length : await applyPathPlan(database, plan, times, progress);
}

type Family = ReadonlyMap<number, Retention>;

/** Each cache with the overlays that lie over it: a path of an overlay may need paths below. */
async function readFamilies(database: Database, settings: GarbageSettings): Promise<Family[]> {
  const rows = await database.read
    .selectFrom('cache')
    .select(['id', 'base_id', 'retention_ms', 'retention_by', 'borrowed_bytes'])
    .execute();
  return [...Map.groupBy(rows, (row) => row.base_id ?? row.id).values()].map(
    (members) =>
      new Map(
        members.map((row): [number, Retention] => [
          row.id,
          {
            keepMs: row.retention_ms === null ? settings.keepMs : row.retention_ms || undefined,
            by: row.retention_by,
            borrowedBytes: row.borrowed_bytes ?? undefined,
          },
        ]),
      ),
  );
}

/** How long what an upstream said of a derivation's output is believed without asking again. */
const PULLED_FILES_MS = 30 * 24 * 3600 * 1000;

/** Logs stay as long as paths would. */
async function collectOldLogs(database: Database, family: Family, now: number): Promise<number> {
  let removed = 0;
  for (const [cacheId, { keepMs }] of family)
    if (keepMs !== undefined) removed += await collectLogs(database, cacheId, now - keepMs);
  return removed;
}

function count(paths: PathCounts, plan: GcPlan): void {
  paths.kept += plan.kept;
  paths.tombstoned += plan.tombstone.length;
  paths.revived += plan.revive.length;
  paths.waiting += plan.waiting;
}

const REMEMBERED_RUNS = 100;

async function remember(database: Database, report: GarbageReport): Promise<void> {
  await database.write(async (transaction) => {
    const { id } = await transaction
      .insertInto('garbage_run')
      .values({ started_at: report.startedAt, ended_at: report.endedAt, report: JSON.stringify(report) })
      .returning('id')
      .executeTakeFirstOrThrow();
    await transaction
      .deleteFrom('garbage_run')
      .where('id', '<=', id - REMEMBERED_RUNS)
      .execute();
  });
}
