// What Slipway's own upload protocol refuses, and that a refusal leaves nothing behind.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { zstdCompressSync, constants } from 'node:zlib';
import {
  BUNDLE_MAGIC,
  formatRecord,
  MOST_PATHS_A_BUNDLE,
  type BundleRecord,
  type ChunkRecord,
} from '../../src/content/bundle-format.ts';
import { patchedChunkHash, plainChunkHash } from '../../src/content/chunk-identity.ts';
import { MAX_CHUNK } from '../../src/content/chunker.ts';
import { encodeFrame } from '../../src/content/frame-codec.ts';
import { MOST_PLACES } from '../../src/content/patched-frame.ts';
import { formatVarint } from '../../src/content/recipe.ts';
import { temporaryFolder } from '../e2e/cache-scene.ts';
import { issueToken, openCacheServer, type CacheServer } from './cache-server.ts';
import { noise, testPath, type TestPath } from './cache-uploads.ts';
import {
  begin,
  BundleSender,
  bundleOf,
  chunksOf,
  named,
  pathRecord,
  resume,
  sent,
  together,
  wholeBundle,
  type SentChunk,
  type UploadAnswer,
} from './upload-bundles.ts';

const folder = temporaryFolder('upload-refusals');
let server: CacheServer;
let main: BundleSender;
let good: TestPath;
let chunks: readonly SentChunk[];

before(async () => {
  server = await openCacheServer(path.join(folder.path, 'data'));
  main = new BundleSender(server.url, 'main', await issueToken(server, 'write:main'));
  good = await testPath('good', noise(600_000, 'good'));
  chunks = await chunksOf(good.nar);
});
after(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

/** Rows of everything that an upload makes. */
async function counted(): Promise<Record<string, number>> {
  const tables = ['store_path', 'content', 'chunk', 'pack', 'staged_chunk', 'cache_chunk'] as const;
  const counts: Record<string, number> = {};
  for (const table of tables) {
    const { count } = await server.database.read
      .selectFrom(table)
      .select((builder) => builder.fn.countAll<number>().as('count'))
      .executeTakeFirstOrThrow();
    counts[table] = count;
  }
  counts['bytes on the disk'] = bytesBelow(path.join(folder.path, 'data', 'packs'));
  return counts;
}

function bytesBelow(directory: string): number {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.reduce((sum, { parentPath, name }) => sum + statSync(path.join(parentPath, name)).size, 0);
}

async function refused(bundle: Buffer, status: number, code: string, message: RegExp): Promise<void> {
  const before = await counted();
  const answer = await main.send(bundle);
  assert.equal(answer.status, status, JSON.stringify(answer.body));
  assert.equal(answer.body.error?.code, code);
  assert.match(answer.body.error?.message ?? '', message);
  assert.deepEqual(await counted(), before);
}

const firstChunk = (): SentChunk => chunks[0] as SentChunk;
const withFrame = (frame: Buffer): BundleRecord => sent({ ...firstChunk(), frame });

function record(type: number, payload: Buffer, length = payload.length): Buffer {
  const header = Buffer.alloc(5);
  header.writeUInt8(type, 0);
  header.writeUInt32LE(length, 1);
  return Buffer.concat([BUNDLE_MAGIC, header, payload]);
}

test('what is no bundle is refused', async () => {
  const whole = await wholeBundle(good);
  const hash = Buffer.alloc(32);
  const chunkOf = (...numbers: number[]): Buffer => record(3, Buffer.concat([hash, Buffer.from(numbers)]));
  const cases: readonly (readonly [Buffer, RegExp])[] = [
    [Buffer.alloc(0), /begin as one/],
    [Buffer.from('SWU3'), /begin as one/],
    [Buffer.from('SWU1'), /older Slipway/],
    [whole.subarray(0, -1), /ends too early/],
    [whole.subarray(0, 6), /ends too early/],
    [record(9, Buffer.alloc(3)), /unknown type/],
    [record(1, Buffer.alloc(0), 0xffffffff), /too long/],
    [record(3, Buffer.alloc(0), 0x7fffffff), /too long/],
    [record(1, Buffer.alloc(10)), /too short/],
    [record(1, Buffer.concat([hash, Buffer.alloc(8, 0xff)])), /too large/],
    [record(1, Buffer.concat([hash, Buffer.from([1, 1])])), /wrong length/],
    [chunkOf(0, 0), /length that none may have/],
    [chunkOf(0xff, 0xff, 0x7f, 0), /length that none may have/],
    [chunkOf(100, ...formatVarint(MOST_PLACES + 1)), /too many places/],
    [chunkOf(100, 1, 0, 5), /place that none may have/],
    [chunkOf(100, 1, 95, 12), /place that none may have/],
    [chunkOf(100, 1, 0, 20, 1, 2), /too short/],
    [chunkOf(100, 0, 7), /wrong length/],
    [record(5, Buffer.from([0, 1])), /number of chunks that none may have/],
    [record(5, Buffer.from([33, 1])), /number of chunks that none may have/],
    [record(5, Buffer.from([2, 1])), /lacks one of its chunks/],
    [bundleOf(begin(good), overfull()), /more bytes than one may have/],
    [bundleOf(sent(firstChunk())), /belongs to no NAR/],
  ];
  for (const [bundle, message] of cases) await refused(bundle, 400, 'invalid', message);
});

/** A frame that is said to hold three of the largest chunks. */
function overfull(): BundleRecord {
  const chunk = { kind: 'chunk', hash: Buffer.alloc(32), rawLength: MAX_CHUNK, patches: [] } as const;
  return { kind: 'frame', chunks: [chunk, chunk, chunk], frame: Buffer.alloc(20) };
}

const zstd = (raw: Buffer, params: Record<number, number>): Buffer => zstdCompressSync(raw, { params });

test('a frame is refused unless it is exactly one plain zstd frame of its chunk', async () => {
  const { bytes, frame } = firstChunk();
  const other = Buffer.from(bytes);
  other[5] = (other[5] ?? 0) ^ 1;
  const skippable = Buffer.from('502a4d180400000041414141', 'hex');
  const cases: readonly (readonly [Buffer, RegExp])[] = [
    [Buffer.from('nonsense, not a frame'), /not one plain zstd frame/],
    [Buffer.concat([frame, frame]), /not one plain zstd frame/],
    [Buffer.concat([frame, Buffer.from('x')]), /not one plain zstd frame/],
    [Buffer.concat([frame, skippable]), /not one plain zstd frame/],
    [Buffer.concat([skippable, frame]), /not one plain zstd frame/],
    [frame.subarray(0, -1), /not one plain zstd frame/],
    [zstd(bytes, { [constants.ZSTD_c_checksumFlag]: 1 }), /not one plain zstd frame/],
    [zstd(bytes.subarray(1), {}), /not one plain zstd frame/],
    [zstd(other, {}), /another hash/],
    [zstd(Buffer.alloc(100 * 1024 * 1024), {}), /not one plain zstd frame/],
    [bomb(), /cannot be decoded/],
  ];
  for (const [bad, message] of cases)
    await refused(bundleOf(begin(good), withFrame(bad)), 400, 'invalid', message);
});

test('a frame of several chunks is refused as a whole when one of them is not what it is said to be', async () => {
  const record = await together(chunks.slice(0, 4));
  assert.ok(record.kind === 'frame');
  const [a, b, c, d] = record.chunks as [ChunkRecord, ChunkRecord, ChunkRecord, ChunkRecord];
  const forged = { ...b, hash: plainChunkHash(Buffer.from('the name of something else')) };
  const moved = [
    { ...a, rawLength: a.rawLength + 1 },
    { ...b, rawLength: b.rawLength - 1 },
  ];
  const cases: readonly (readonly [readonly ChunkRecord[], RegExp])[] = [
    [[a, forged, c, d], /another hash/],
    [[b, a, c, d], /another hash/],
    [[...moved, c, d], /another hash/],
    [[a, b, c], /not one plain zstd frame of that length/],
    [[a, b, c, d, d], /not one plain zstd frame of that length/],
  ];
  for (const [named, message] of cases)
    await refused(bundleOf(begin(good), { ...record, chunks: named }), 400, 'invalid', message);
});

/** A frame that does not state its size: 2,000 blocks that repeat a byte 131,072 times. */
function bomb(): Buffer {
  const header = Buffer.from('28b52ffd0058', 'hex');
  return Buffer.concat([header, ...Array.from({ length: 2000 }, (_, n) => repeatedByte(n === 1999 ? 1 : 0))]);
}

function repeatedByte(isLast: number): Buffer {
  const block = Buffer.alloc(4);
  block.writeUIntLE((131_072 << 3) | (1 << 1) | isLast, 0, 3);
  return block;
}

test('a chunk with places is refused unless its frame depends on them nowhere else', async () => {
  const bytes = Buffer.concat([noise(40_000, 'places'), Buffer.alloc(40, 0x65), noise(100, 'more')]);
  const places = [{ offset: 40_000, length: 40 }];
  const chunk = {
    hash: patchedChunkHash(bytes, places),
    bytes,
    patches: [{ offset: 40_000, literal: Buffer.alloc(40, 'l') }],
    frame: await encodeFrame(bytes),
  };
  const message = /lacks the places/;
  await refused(bundleOf(begin(good), sent(chunk)), 400, 'invalid', message);
});

test('a chunk that is held is not taken with places that it does not have', async () => {
  const reference = '/nix/store/0123456789abcdfghijklmnpqrsvwxyz-name-1.0';
  const real = await testPath('with-places', Buffer.concat([Buffer.from(reference), noise(30_000, 'held')]));
  assert.equal((await main.send(await wholeBundle(real))).status, 200);
  const [chunk] = await chunksOf(real.nar);
  assert.ok(chunk !== undefined && chunk.patches.length === 1);
  const patches = chunk.patches.map(({ offset, literal }) => ({ offset: offset + 1, literal }));
  const answer = await main.send(bundleOf(begin(real), named({ ...chunk, patches }), pathRecord(real)));
  assert.equal(answer.status, 400);
  assert.match(answer.body.paths?.[0]?.failure?.message ?? '', /places that its chunk does not have/);
});

test('a bundle that fails at its very end leaves nothing on the disk either', async () => {
  const fresh = await testPath('fails-late', noise(6_000_000, 'fails late')); // two batches
  const frames = (await chunksOf(fresh.nar)).map(sent);
  await refused(
    bundleOf(begin(fresh), ...frames, withFrame(Buffer.from('no frame'))),
    400,
    'invalid',
    /not one plain zstd frame/,
  );
});

test('a bundle that counts on what is not held is 409 and leaves nothing', async () => {
  const before = await counted();
  const records = [begin(good), sent(firstChunk()), ...chunks.slice(1).map(named)];
  const answer = await main.send(bundleOf(...records, pathRecord(good)));
  assert.deepEqual([answer.status, answer.body.absent, answer.body.error?.code], [409, true, 'conflict']);
  assert.deepEqual(await counted(), before);
});

function failureOf(answer: UploadAnswer): readonly [number, string | undefined] {
  return [answer.status, answer.body.paths?.[0]?.failure?.code];
}

test('what is wrong with a path is told with it, and the others are published', async () => {
  const fine = await testPath('fine', noise(50_000, 'fine'));
  const fineRecords = [begin(fine), ...(await chunksOf(fine.nar)).map(sent), pathRecord(fine)];
  const all = chunks.map(sent);
  const missing = `${'a'.repeat(32)}-missing`;
  const cases: readonly (readonly [string, readonly BundleRecord[], number, string])[] = [
    ['without its NAR', [pathRecord(good)], 400, 'narinfo_invalid'],
    ['half of its NAR', [begin(good), ...all.slice(1), pathRecord(good)], 400, 'nar_invalid'],
    ['no end', [begin(good), ...all.slice(0, 2), pathRecord(good)], 400, 'narinfo_invalid'],
    ['more than it said', [begin(good, good.nar.length - 8), ...all, pathRecord(good)], 400, 'nar_invalid'],
    [
      'less than it said',
      [begin(good, good.nar.length + 8), ...all, pathRecord(good)],
      400,
      'narinfo_invalid',
    ],
    ['chunks in another order', [begin(good), ...all.toReversed(), pathRecord(good)], 400, 'nar_invalid'],
    ['of another size', [begin(good), ...all, pathRecord(good, { NarSize: '1' })], 400, 'narinfo_invalid'],
    [
      'with a reference that is not there',
      [begin(good), ...all, pathRecord(good, { References: missing })],
      400,
      'narinfo_invalid',
    ],
    [
      'with a false address',
      [begin(good), ...all, pathRecord(good, { CA: `fixed:r:sha256:${'0'.repeat(52)}` })],
      400,
      'narinfo_invalid',
    ],
  ];
  for (const [name, records, status, code] of cases) {
    const answer = await main.send(bundleOf(...records, ...fineRecords));
    assert.deepEqual(failureOf(answer), [status, code], name);
    assert.deepEqual(answer.body.paths?.[1], { storePath: fine.storePath }, name);
  }
  const rows = await server.database.read.selectFrom('store_path').select('store_path').execute();
  assert.ok(!rows.some((row) => row.store_path === good.storePath));
});

test('a NAR that is none, or has another hash, is not published, however well its chunks are made', async () => {
  const garbage = { ...good, nar: noise(40_000, 'no nar') };
  const notNar = await main.send(await wholeBundle(garbage));
  assert.deepEqual(failureOf(notNar), [400, 'nar_invalid']);
  const other = await testPath('other', noise(100_000, 'other'));
  const bundle = bundleOf(
    begin({ ...other, nar: good.nar }, other.nar.length),
    ...(await chunksOf(other.nar)).map(sent),
    pathRecord(good),
  );
  assert.deepEqual(failureOf(await main.send(bundle)), [400, 'nar_hash_mismatch']);
});

test('a NAR in crumbs is refused', async () => {
  const { nar } = good;
  const crumbs = await Promise.all(
    Array.from({ length: 20 }, async (_, n) => {
      const bytes = Buffer.from(nar.subarray(n * 1000, (n + 1) * 1000));
      return sent({ hash: plainChunkHash(bytes), bytes, patches: [], frame: await encodeFrame(bytes) });
    }),
  );
  const answer = await main.send(bundleOf(begin(good), ...crumbs, pathRecord(good)));
  assert.deepEqual(failureOf(answer), [400, 'nar_invalid']);
});

test('other bytes for a path that is there are 409, recorded, and change nothing', async () => {
  const first = await testPath('contested', noise(60_000, 'first'));
  const second = await testPath('contested', noise(60_000, 'second'));
  assert.equal((await main.send(await wholeBundle(first))).status, 200);
  assert.deepEqual(failureOf(await main.send(await wholeBundle(second))), [409, 'conflict']);
  const rows = await server.database.read.selectFrom('path_conflict').selectAll().execute();
  assert.ok(rows.some((row) => row.store_path === first.storePath));
});

test('what is too large is 413: a bundle, a NAR, a question', async () => {
  const large = Buffer.concat([BUNDLE_MAGIC, randomBytes(33 * 1024 * 1024)]);
  assert.equal((await main.send(large)).status, 413);
  const paths = Array.from({ length: MOST_PATHS_A_BUNDLE + 1 }, () => pathRecord(good));
  await refused(bundleOf(...paths), 413, 'too_large', /4096 paths/);
  await refused(bundleOf(begin(good, 2 ** 40)), 413, 'too_large', /A NAR may have/);
  assert.equal((await main.missingPaths(JSON.stringify({ paths: ['x'.repeat(900_000)] }))).status, 413);
  assert.equal((await main.request('POST', '/missing-chunks', randomBytes(32 * 8193))).status, 413);
});

test('questions that are none are 400, JSON bombs too', async () => {
  const hash = 'a'.repeat(32);
  for (const question of [
    '',
    'null',
    '[]',
    '{"paths":["x"]}',
    `{"paths":{"0":"${hash}"}}`,
    '['.repeat(200_000),
    `{"paths":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
    JSON.stringify({ paths: Array.from({ length: 20_001 }, () => hash) }),
    '\u00ff',
  ])
    assert.equal((await main.missingPaths(question)).status, 400, question.slice(0, 40));
  assert.equal((await main.request('POST', '/missing-chunks', randomBytes(31))).status, 400);
  assert.equal(await main.missingChunks([]), '');
});

test('whoever may only read is refused before a byte of the body is looked at', async () => {
  const reader = new BundleSender(server.url, 'main', await issueToken(server, 'read:main'));
  const stranger = new BundleSender(server.url, 'secret', await issueToken(server, 'write:main'));
  assert.equal((await reader.send(Buffer.from('no bundle'))).status, 403);
  assert.equal((await stranger.send(Buffer.from('no bundle'))).status, 401);
  assert.equal((await new BundleSender(server.url, 'main').send(Buffer.from('no bundle'))).status, 401);
  assert.equal(await reader.missingChunks([firstChunk()]), '403');
});

test('a stored frame that is broken counts as missing, and the next push heals it', async () => {
  const one = await testPath('broken', noise(300_000, 'broken'));
  const parts = await chunksOf(one.nar);
  await main.send(await wholeBundle(one));
  const [target] = parts;
  assert.ok(target);
  await server.database.write(
    async (transaction) =>
      await transaction.updateTable('chunk').set({ frame_crc: 1 }).where('hash', '=', target.hash).execute(),
  );
  const again = bundleOf(begin(one), ...parts.map(named), pathRecord(one));
  assert.deepEqual((await main.send(again)).body.absent, true);
  assert.equal(await main.missingChunks(parts), `m${'h'.repeat(parts.length - 1)}`);
  const healing = bundleOf(begin(one), sent(target), ...parts.slice(1).map(named), pathRecord(one));
  assert.equal((await main.send(healing)).status, 200);
  assert.equal(await main.missingChunks(parts), 'h'.repeat(parts.length));
});

test('a NAR that goes on where it has not begun is lost, not mixed up', async () => {
  const records = [resume(good, 1), ...chunks.slice(1).map(sent), pathRecord(good)];
  const answer = await main.send(bundleOf(...records));
  assert.deepEqual(failureOf(answer), [400, 'narinfo_invalid']);
  assert.equal(answer.body.lost?.length, 1);
});

test('a bundle with no change of state is welcome', async () => {
  assert.deepEqual(await main.send(Buffer.concat([BUNDLE_MAGIC, ...formatRecord(begin(good))])), {
    status: 200,
    body: { paths: [], lost: [] },
  });
});
