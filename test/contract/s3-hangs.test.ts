// An object store that takes connections and says nothing, stops in the middle of an answer, or refuses for a while: the
// server's clients hear of it in time, others go on, nothing is half stored, and all is well again afterwards.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { request as sendRequest, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, beforeEach, test } from 'node:test';
import { openS3BlobStore } from '../../src/storage/s3-blob-store.ts';
import type { S3Options } from '../../src/storage/s3-client.ts';
import { openSqliteDatabase } from '../../src/storage/sqlite-database.ts';
import { deadline, sleep } from '../../src/util/deadline.ts';
import { isCode } from '../../src/util/errors.ts';
import { temporaryFolder } from '../e2e/cache-scene.ts';
import { issueToken, openCacheServer } from './cache-server.ts';
import { nix32, testPath, Uploader, type TestPath } from './cache-uploads.ts';
import { openFaultProxy } from './fault-proxy.ts';
import { openS3Server } from './s3-server.ts';
import { openTcpProxy, type ProxyMode } from './tcp-proxy.ts';

const MIB = 1024 * 1024;
/** A busy machine may pause for half a second; a test must not wait for minutes. */
const patience = { attemptMs: 3_000, silenceMs: 1_000, totalMs: 2_000 };
/** Attempts that hang, one after the other, and what a busy machine needs beside them. */
const MOST_MS = 30_000;

const folder = temporaryFolder('s3-hangs');
const s3 = await openS3Server();
const bucket = await s3.createBucket();
const proxy = await openTcpProxy(bucket.endpoint ?? '');
const through: S3Options = { ...bucket, endpoint: proxy.url, patience };
const data = join(folder.path, 'data');
mkdirSync(data);
const database = await openSqliteDatabase(join(data, 'slipway.db'));
const blobs = await openS3BlobStore(through);
const server = await openCacheServer(data, {
  storage: {
    database,
    blobs,
    [Symbol.asyncDispose]: async () => {
      await blobs[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    },
  },
});
after(async () => {
  await server[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  await s3[Symbol.asyncDispose]();
  await folder.remove();
});
beforeEach(async () => {
  await healed();
  server.failures.length = 0; // the server is told that its store fails
});

const main = `${server.url}/main`;
const token = await issueToken(server, 'write:main');
const uploader = new Uploader(main, token);

interface Download {
  readonly status: number;
  /** Whether it came to its end as promised. */
  readonly whole: boolean;
  readonly body: Buffer;
}

async function download(path: TestPath): Promise<Download> {
  const response = await uploader.get(`nar/${nix32(path.nar)}.nar`);
  const pieces: Uint8Array[] = [];
  let whole = true;
  try {
    for await (const piece of response.body ?? []) pieces.push(piece);
  } catch {
    whole = false;
  }
  return { status: response.status, whole, body: Buffer.concat(pieces) };
}

async function isPublished(path: TestPath): Promise<boolean> {
  const response = await uploader.get(`${path.hash}.narinfo`);
  await response.arrayBuffer();
  return response.status === 200;
}

/** The store answers again; that it did not is believed for a second or two. */
async function healed(): Promise<void> {
  proxy.mode = 'pass';
  for (const signal = deadline(20_000); ;) {
    const answers = await blobs.size('pack/none').then(
      () => true,
      () => false,
    );
    if (answers) return;
    await sleep(100, signal);
  }
}

/** Uploads the NAR out of the one buffer that holds it: what memory grows by is the server's. */
async function sendSlices({ url, file }: TestPath): Promise<number> {
  const slices = Array.from({ length: Math.ceil(file.length / MIB) }, (_, n) =>
    file.subarray(n * MIB, (n + 1) * MIB),
  );
  const headers = { authorization: `Bearer ${token}`, 'content-length': file.length };
  const request = sendRequest(`${main}/${url}`, { method: 'PUT', headers });
  Readable.from(slices).pipe(request);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  response.resume();
  request.destroy();
  return response.statusCode ?? 0;
}

/** Rows that name what is stored. */
async function countRows(): Promise<number[]> {
  const tables = ['pack', 'content', 'nar_upload', 'store_path'] as const;
  return await Promise.all(
    tables.map(async (table) => (await database.read.selectFrom(table).selectAll().execute()).length),
  );
}

/** `work` ends in time, and what other clients ask meanwhile, that needs no store, is answered at once. */
async function inTime<T>(work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const done = new AbortController();
  const worked = work().finally(() => done.abort());
  let slowest = 0;
  while (!done.signal.aborted) {
    const asked = performance.now();
    assert.equal(await isPublished(known), true);
    slowest = Math.max(slowest, performance.now() - asked);
    await sleep(20);
  }
  assert.ok(performance.now() - started < MOST_MS, `${performance.now() - started} ms`);
  assert.ok(slowest < 3_000, `a narinfo took ${slowest} ms`);
  return await worked;
}

const known = await testPath('known', randomBytes(MIB));
assert.equal((await uploader.push(known)).status, 200);

const MODES = { 'says nothing': 'silent', 'stops in its answers': 100 } satisfies Record<string, ProxyMode>;

for (const [what, mode] of Object.entries(MODES)) {
  test(`uploads to a store that ${what} are refused in time, leave nothing, and are taken afterwards`, async () => {
    const before = await countRows();
    const paths = await Promise.all(
      [1, 9].map(async (size) => await testPath(`${mode}-${size}`, randomBytes(size * MIB))),
    );
    proxy.mode = mode;
    const answers = await inTime(
      async () => await Promise.all(paths.map(async (path) => await uploader.push(path))),
    );
    for (const { status, text } of answers) {
      assert.equal(status, 422);
      assert.match(text, /The object store failed to .+: .+/);
    }
    await healed();
    assert.deepEqual(await countRows(), before);
    for (const path of paths) {
      assert.equal(await isPublished(path), false);
      assert.deepEqual(await uploader.push(path), { status: 200, text: '' });
      assert.ok((await download(path)).body.equals(path.nar));
    }
  });

  test(`downloads from a store that ${what} end in time, never as a short answer, and are whole afterwards`, async () => {
    const path = await testPath(`read-${mode}`, randomBytes(10 * MIB));
    assert.equal((await uploader.push(path)).status, 200);
    proxy.mode = mode;
    const { status, whole } = await inTime(async () => await download(path));
    assert.ok(status === 404 || status === 503 || !whole, `${status}`);
    await healed();
    const reading = download(path); // the store falls silent in the middle of it
    await sleep(30);
    proxy.mode = mode;
    const cut = await inTime(async () => await reading);
    assert.ok(cut.status !== 200 || !cut.whole || cut.body.equals(path.nar));
    await healed();
    assert.ok((await download(path)).body.equals(path.nar));
  });
}

test('a crowd of uploads waits for a silent store without filling memory', async () => {
  const path = await testPath('crowd', randomBytes(18 * MIB));
  proxy.mode = 'silent';
  const before = process.memoryUsage.rss();
  let most = before;
  const watch = setInterval(() => (most = Math.max(most, process.memoryUsage.rss())), 20);
  const crowd = Array.from({ length: 10 }, async () => await sendSlices(path));
  const statuses = await inTime(async () => await Promise.all(crowd));
  clearInterval(watch);
  assert.deepEqual(new Set(statuses), new Set([422]));
  assert.ok(most - before < 120 * MIB, `${(most - before) / MIB} MiB more`); // all of it would be 180
});

test('a store that refuses for some seconds is waited for, by uploads and by downloads', async () => {
  await using refusing = await openFaultProxy(bucket.endpoint ?? '');
  await using store = await openS3BlobStore({ ...bucket, endpoint: refusing.url });
  const bytes = randomBytes(9 * MIB);
  const until = performance.now() + 4_500;
  refusing.plan = () => (performance.now() < until ? { status: 503 } : undefined);
  await using writer = await store.create('pack/patient');
  await writer.write(bytes);
  await writer.commit();
  assert.ok((await store.read('pack/patient', 0, bytes.length))?.equals(bytes));
});

test('a server does not wait for ever to start on a store that says nothing', async () => {
  proxy.mode = 'silent';
  await assert.rejects(openS3BlobStore(through), (error) => isCode(error, 'unavailable'));
});
