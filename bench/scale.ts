// A cache with a million paths: how long look-ups take, cold and warm, present and absent, alone and beside a collection;
// how long a collection takes; how much memory the server needs. `npm run bench:scale -- --json` (last line: one JSON
// object), `--paths N`, `--data FOLDER` to keep the filled database there. What is made up: see scale-rows.ts.
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { runLoad } from './cache-load.ts';
import { round } from './cache-result.ts';
import { fillDatabase, hashOf } from './scale-rows.ts';
import { forgetFile, rememberFile, serve, type ScaleServer } from './scale-server.ts';

const { values } = parseArgs({
  options: { json: { type: 'boolean' }, paths: { type: 'string' }, data: { type: 'string' } },
});
const PATHS = Number(values.paths ?? 1_000_000);
const CONNECTIONS = 16;
const REQUESTS = 20_000;
/** Look-ups that are timed come at this rate, which is that of a hundred hosts that update at once. */
const PER_SECOND = 1000;
const COLLECT_AFTER_S = 20;
const TOMBSTONE_MS = 86_400_000;
/** While garbage is collected: hits and misses together. */
const STEADY_PER_SECOND = 300;
const WATCH_MS = 10_000;
/** Longer than any thread of a server lives that has nothing to do. */
const IDLE_MS = 10_000;

interface Latencies {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

const begun = performance.now();
const tell = (what: string): void =>
  console.error(`${((performance.now() - begun) / 1000).toFixed(0).padStart(5)} s  ${what}`);

const work = mkdtempSync('/var/tmp/slipway-scale-');
try {
  const data = path.join(work, 'data');
  const filled = await fill(data);
  const results = { paths: PATHS, ...filled, ...(await measure(data)) };
  const checks = judge(results);
  console.log(JSON.stringify(results, undefined, 1));
  for (const [name, holds] of Object.entries(checks)) console.log(`${holds ? 'ok    ' : 'MISSED'} ${name}`);
  if (values.json === true)
    console.log(
      JSON.stringify({ bench: 'scale', ok: Object.values(checks).every(Boolean), checks, results }),
    );
} finally {
  rmSync(work, { recursive: true, force: true });
}

async function fill(data: string): Promise<{ fillSeconds?: number; databaseMb: number }> {
  const kept = values.data;
  const started = performance.now();
  if (kept === undefined || !existsSync(kept)) {
    mkdirSync(kept ?? data, { recursive: true, mode: 0o700 });
    await using _ = await serve(kept ?? data, 0); // makes the tables and the cache
  }
  if (kept !== undefined) cpSync(kept, data, { recursive: true });
  const file = path.join(data, 'slipway.db');
  const empty = sql(file, 'select count(*) n from store_path')['n'] === 0;
  tell(empty ? `${PATHS} paths are made` : 'the paths are there');
  if (empty) fillDatabase(file, PATHS);
  if (empty && kept !== undefined) cpSync(data, kept, { recursive: true, force: true });
  const pages = sql(file, 'select page_count * page_size bytes from pragma_page_count, pragma_page_size');
  return {
    ...(empty && { fillSeconds: round((performance.now() - started) / 1000) }),
    databaseMb: Math.round(Number(pages['bytes']) / 1e6),
  };
}

async function measure(data: string) {
  const file = path.join(data, 'slipway.db');
  tell('an idle server');
  const idle = await measureIdle();
  forgetFile(file);
  tell('look-ups');
  const { lookups, perSecond, memoryMb } = await measureLookups(data, file);
  tell(JSON.stringify({ idle, lookups, perSecond, memoryMb }));
  tell('a collection that tombstones');
  const first = await measureCollection(data, file);
  // Time passes: what was tombstoned is now removed.
  sql(file, `update store_path set tombstoned_at = tombstoned_at - ${TOMBSTONE_MS}`);
  sql(file, `update garbage_run set ended_at = ended_at - ${TOMBSTONE_MS}`);
  tell(JSON.stringify(first));
  tell('a collection that removes');
  const second = await measureCollection(data, file);
  return { idle, lookups, perSecond, memoryMb, mark: first, remove: second };
}

/** As from the second start on: its code is compiled, its keys and tokens are made. */
async function measureIdle() {
  const empty = path.join(work, 'empty');
  mkdirSync(empty);
  {
    await using _ = await serve(empty, 0);
  }
  await using server = await serve(empty, 0);
  await wait(IDLE_MS);
  return server.memory();
}

async function measureLookups(data: string, file: string) {
  await using server = await serve(data, 0);
  forgetFile(file);
  const present = sample(REQUESTS, (n) => hashOf(Math.floor((n * PATHS) / REQUESTS)));
  const absent = sample(REQUESTS, (n) => hashOf(n, true));
  // Absence is remembered for five seconds (narinfo-lookup.ts): so few are all asked for again within that time.
  const remembered = absent.slice(0, 2 * PER_SECOND);
  const started = await cold(server, present, absent, file);
  const lookups = {
    ...started,
    hitsFirst: await time(server, present, 200), // from the disk
    hitsFirstInMemory: await inKernelMemory(server, file),
    hitsAgain: await time(server, present, 200),
    missesFirst: await time(server, absent, 404),
    missesAgain: await time(server, remembered, 404),
  };
  const load = { origin: server.url, requests: REQUESTS, connections: CONNECTIONS };
  const perSecond = {
    hits: round((REQUESTS / (await runLoad({ ...load, paths: present }))) * 1000),
    misses: round((REQUESTS / (await runLoad({ ...load, paths: remembered }, 404))) * 1000),
  };
  return { lookups, perSecond, memoryMb: server.memory() };
}

/** With the database on the disk only, one after another: other paths than those that are asked for later. */
async function cold(
  server: ScaleServer,
  present: readonly string[],
  absent: readonly string[],
  file: string,
): Promise<Record<'coldHits' | 'coldMisses', Latencies>> {
  const few = 2000;
  forgetFile(file);
  const coldHits = await time(server, present.slice(-few), 200, 1);
  forgetFile(file);
  return { coldHits, coldMisses: await time(server, absent.slice(-few), 404, 1) };
}

/** Other paths, asked for the first time while the kernel has the database in its memory, as on a server with a few GB of it. */
async function inKernelMemory(server: ScaleServer, file: string): Promise<Latencies> {
  rememberFile(file);
  const others = sample(REQUESTS, (n) => hashOf(Math.floor((n * PATHS) / REQUESTS) + 1));
  return await time(server, others, 200);
}

function sample(count: number, hash: (n: number) => string): string[] {
  const all = Array.from({ length: count }, (_, n) => `/main/${hash(n)}.narinfo`);
  return all.toSorted(); // by hash, which is no order of publication
}

async function time(
  { url }: ScaleServer,
  paths: readonly string[],
  status: number,
  connections = CONNECTIONS,
): Promise<Latencies> {
  const all: number[] = [];
  const pace = connections === 1 ? {} : { perSecond: PER_SECOND };
  const load = { origin: url, paths, requests: paths.length, connections, ...pace };
  await runLoad({ ...load, onAnswer: (one) => void all.push(one) }, status);
  return quantiles(all);
}

function quantiles(all: number[]): Latencies {
  const sorted = all.toSorted((a, b) => a - b);
  const at = (part: number): number => round(sorted[Math.floor(sorted.length * part)] ?? Number.NaN);
  return { p50: at(0.5), p99: at(0.99), max: round(sorted.at(-1) ?? Number.NaN) };
}

/** The collection that a server begins by itself, with look-ups beside it from its first moment to its last. */
async function measureCollection(data: string, file: string) {
  await using server = await serve(data, COLLECT_AFTER_S);
  const before = lastRun(file);
  const hits: number[] = [];
  const misses: number[] = [];
  const quiet = await watch(server, [], []); // before it begins: what the machine itself does to look-ups
  let run = lastRun(file);
  for (let turn = 0; run['id'] === before['id']; run = lastRun(file)) {
    if (turn++ > 200) throw new Error('the collection does not end');
    await watch(server, hits, misses);
  }
  const report = JSON.parse(String(run['report'])) as { startedAt: number; endedAt: number };
  return {
    seconds: round((report.endedAt - report.startedAt) / 1000),
    hits: quantiles(hits),
    misses: quantiles(misses),
    quiet,
    memory: server.memory(),
    report,
  };
}

async function watch(server: ScaleServer, hits: number[], misses: number[]): Promise<Latencies> {
  const requests = (STEADY_PER_SECOND * WATCH_MS) / 2000;
  const load = { origin: server.url, requests, connections: 4, perSecond: STEADY_PER_SECOND / 2 };
  const all: number[] = [];
  const from = Math.floor(Math.random() * PATHS);
  const present = sample(requests, (n) => hashOf(PATHS - 1 - ((from + n * 7) % Math.ceil(PATHS / 4))));
  const absent = sample(requests, (n) => hashOf(from + n, true));
  const note = (list: number[]) => (ms: number) => void (list.push(ms), all.push(ms));
  await Promise.all([
    runLoad({ ...load, paths: present, onAnswer: note(hits) }, 200),
    runLoad({ ...load, paths: absent, onAnswer: note(misses) }, 404),
  ]);
  return quantiles(all);
}

function lastRun(file: string): Record<string, unknown> {
  return sql(file, 'select coalesce(max(id), 0) id, report from garbage_run');
}

function sql(file: string, statement: string): Record<string, unknown> {
  const db = new DatabaseSync(file, { timeout: 10_000 });
  try {
    return db.prepare(statement).get() ?? {};
  } finally {
    db.close();
  }
}

function judge(results: Awaited<ReturnType<typeof measure>>): Record<string, boolean> {
  const { lookups, mark, remove, idle, memoryMb } = results;
  const all = [...Object.values(lookups), mark.hits, mark.misses, remove.hits, remove.misses];
  const peak = Math.max(mark.memory.peakMb, remove.memory.peakMb, memoryMb.peakMb);
  return {
    'p99 of every kind of look-up < 5 ms': all.every(({ p99 }) => p99 < 5),
    'a collection < 5 min': Math.max(mark.seconds, remove.seconds) < 300,
    'server memory < 500 MB': peak < 500,
    'idle server < 120 MB': idle.residentMb < 120,
  };
}
