// New bytes that each state of the corpus costs once the first one is stored: Slipway's packs, settled, plain 64 KiB chunks, and
// whole NARs compressed by zstd. Every NAR is read back and hashed.
import { createHash, hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { cp, readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { constants, zstdCompress } from 'node:zlib';
import { commitContent } from '../src/cache/ingest/commit-content.ts';
import { ContentLayouts } from '../src/cache/content-layout.ts';
import { ContentReader } from '../src/cache/content-reader.ts';
import { settlePacks } from '../src/cache/garbage/settle-packs.ts';
import { ContentWriter } from '../src/cache/ingest/content-writer.ts';
import type { BlobStore } from '../src/storage/blob-store.ts';
import type { Database } from '../src/storage/database.ts';
import { openDiskBlobStore } from '../src/storage/disk-blob-store.ts';
import { openSqliteDatabase } from '../src/storage/sqlite-database.ts';
import { mapBounded } from '../src/util/concurrency.ts';
import type { Corpus, CorpusPath } from './cache-corpus.ts';
import { round, type PartResult } from './cache-result.ts';

const LEVEL = { params: { [constants.ZSTD_c_compressionLevel]: 3 } };
const compress = promisify(zstdCompress);

export async function measureDedup(corpus: Corpus, folder: string): Promise<PartResult> {
  const base = path.join(folder, 'base');
  const first = await store(base, corpus.base);
  const figures: Record<string, Costs> = { base: await costs(first, [], corpus.base) };
  for (const variant of ['rebuild', 'security', 'upgrade'] as const) {
    const copy = path.join(folder, variant);
    await cp(base, copy, { recursive: true });
    figures[variant] = await costs(await store(copy, corpus[variant]), corpus.base, corpus[variant]);
  }
  const objects = (first.packs * 1e9) / first.rawBytes;
  return {
    figures: {
      ...figures,
      packsPerGB: round(objects), // before small ones are merged
    },
    checks: {
      'mass rebuild <= 1/20 of plain chunks': (figures['rebuild']?.toPlain ?? 9) <= 1 / 20,
      'security update <= 0.65 of plain chunks': (figures['security']?.toPlain ?? 9) <= 0.65,
      'release upgrade <= 1.03 of whole NARs': (figures['upgrade']?.toWhole ?? 9) <= 1.03,
    },
  };
}

interface Stored {
  /** Of packs, once they are settled. */
  readonly bytes: number;
  /** The same before. */
  readonly asItCame: number;
  readonly sentBytes: number;
  readonly settleMs: number;
  readonly settleCpuMs: number;
  readonly packs: number;
  readonly rawBytes: number;
}

interface Costs {
  readonly asItCame: number;
  readonly sentBytes: number;
  readonly settleMs: number;
  readonly settleCpuMs: number;
  readonly bytes: number;
  readonly plainChunks: number;
  readonly wholeNars: number;
  readonly toPlain: number;
  readonly toWhole: number;
}

async function costs(
  { bytes, asItCame, sentBytes: sent, settleMs, settleCpuMs }: Stored,
  before: readonly CorpusPath[],
  paths: readonly CorpusPath[],
): Promise<Costs> {
  const known = new Set<string>();
  for (const one of before) findFresh(known, await readFile(one.file));
  const plain = await plainChunks(known, paths);
  const whole = await wholeNars(new Set(before.map((one) => one.hash)), paths);
  return {
    bytes,
    asItCame,
    sentBytes: sent,
    settleMs: round(settleMs),
    settleCpuMs: round(settleCpuMs),
    plainChunks: plain,
    wholeNars: whole,
    toPlain: round(bytes / plain),
    toWhole: round(bytes / whole),
  };
}

/** Stores the paths in the folder's database and packs, and proves that each comes back. */
async function store(folder: string, paths: readonly CorpusPath[]): Promise<Stored> {
  await using blobs = await openDiskBlobStore(path.join(folder, 'packs'));
  await using database = await openSqliteDatabase(path.join(folder, 'slipway.db'));
  const before = await packSizes(database);
  const reader = new ContentReader({
    database,
    blobs,
    layouts: new ContentLayouts(database),
    onDamage: () => undefined,
  });
  const ids: number[] = [];
  for (const one of paths) ids.push(await ingest(database, blobs, one));
  const asItCame = await packSizes(database);
  const { ms, cpuMs } = await settle(database, blobs);
  for (const [n, one] of paths.entries()) await prove(reader, ids[n] ?? 0, one);
  const after = await packSizes(database);
  return {
    bytes: sum(after) - sum(before),
    asItCame: sum(asItCame) - sum(before),
    sentBytes: await sentBytes(reader, ids),
    settleMs: ms,
    settleCpuMs: cpuMs,
    packs: after.length - before.length,
    rawBytes: sum(paths.map(({ size }) => size)),
  };
}

async function progress(): Promise<void> {
  await Promise.resolve();
}

/** As a collection does an hour after the last push. */
async function settle(
  database: Database,
  blobs: BlobStore,
): Promise<{ readonly ms: number; readonly cpuMs: number }> {
  const started = performance.now();
  const before = process.cpuUsage();
  const now = Date.now() + 1000;
  await settlePacks({ database, blobs }, { now, youngMs: 0, settleBytes: 0, progress });
  const { user, system } = process.cpuUsage(before);
  return { ms: performance.now() - started, cpuMs: (user + system) / 1000 };
}

/** What hosts that have none of it download. */
async function sentBytes(reader: ContentReader, ids: readonly number[]): Promise<number> {
  let bytes = 0;
  for (const id of ids) bytes += (await reader.open(id, 'zstd'))?.length ?? 0;
  return bytes;
}

function sum(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total + size, 0);
}

async function ingest(database: Database, blobs: BlobStore, one: CorpusPath): Promise<number> {
  await using writer = new ContentWriter(database, blobs);
  const nar = createReadStream(one.file, { highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>;
  for await (const bytes of nar) await writer.write(bytes);
  const staged = await writer.finish();
  return await database.write(
    async (transaction) => await commitContent(transaction, { ...staged, flatHash: undefined }, Date.now()),
  );
}

async function prove(reader: ContentReader, contentId: number, one: CorpusPath): Promise<void> {
  const content = await reader.open(contentId, 'raw');
  const body = await content?.start({ start: 0, end: content.length });
  const hasher = createHash('sha256');
  for await (const bytes of body ?? []) hasher.update(bytes);
  if (hasher.digest('hex') !== one.hash) throw new Error(`${one.file} does not come back`);
}

async function packSizes(database: Database): Promise<number[]> {
  const rows = await database.read
    .selectFrom('pack')
    .select('size')
    .where('retired_at', 'is', null)
    .execute();
  return rows.map(({ size }) => size);
}

async function wholeNars(known: ReadonlySet<string>, paths: readonly CorpusPath[]): Promise<number> {
  let bytes = 0;
  for (const one of paths)
    if (!known.has(one.hash)) bytes += (await compress(await readFile(one.file), LEVEL)).length;
  return bytes;
}

/** FastCDC of 16/64/256 KiB, a zstd frame a chunk: what Attic does. Only what is new counts. */
async function plainChunks(known: Set<string>, paths: readonly CorpusPath[]): Promise<number> {
  let bytes = 0;
  for (const one of paths) {
    const fresh = findFresh(known, await readFile(one.file));
    const frames = await mapBounded(fresh, 4, async (chunk) => (await compress(chunk, LEVEL)).length);
    bytes += sum(frames);
  }
  return bytes;
}

/** Chunks that are not known; they are then. */
function findFresh(known: Set<string>, nar: Buffer): Buffer[] {
  return [...cutPlain(nar)].filter((chunk) => {
    const key = hash('sha256', chunk);
    return known.has(key) ? false : known.add(key);
  });
}

const GEAR = Int32Array.from({ length: 256 }, (_, n) =>
  createHash('sha256').update(`plain ${n}`).digest().readInt32LE(0),
);

function* cutPlain(bytes: Buffer): Generator<Buffer> {
  for (let start = 0; start < bytes.length;) {
    const end = plainCut(bytes, start);
    yield bytes.subarray(start, end);
    start = end;
  }
}

function plainCut(bytes: Buffer, start: number): number {
  const last = Math.min(bytes.length, start + 256 * 1024);
  const target = start + 64 * 1024;
  let sum = 0;
  for (let at = start + 16 * 1024; at < last; at++) {
    sum = ((sum << 1) + (GEAR[bytes[at] ?? 0] ?? 0)) | 0;
    if ((sum & (~0 << (at < target ? 14 : 18))) === 0) return at + 1;
  }
  return last;
}
