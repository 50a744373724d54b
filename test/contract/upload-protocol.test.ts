// Slipway's own upload protocol, spoken by hand: what a bundle publishes, what survives a cut, who may know of which chunk.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { collectChunks } from '../../src/cache/garbage/collect-chunks.ts';
import { temporaryFolder } from '../e2e/cache-scene.ts';
import { issueToken, openCacheServer, type CacheServer } from './cache-server.ts';
import { noise, testPath, Uploader, type TestPath } from './cache-uploads.ts';
import {
  begin,
  BundleSender,
  bundleOf,
  chunksOf,
  framed,
  named,
  pathRecord,
  resume,
  sent,
  wholeBundle,
} from './upload-bundles.ts';

const folder = temporaryFolder('upload-protocol');
let server: CacheServer;
let main: BundleSender;

before(async () => {
  server = await openCacheServer(path.join(folder.path, 'data'));
  main = await senderFor('main', 'write:main');
});
after(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

async function senderFor(cache: string, ...scopes: string[]): Promise<BundleSender> {
  return new BundleSender(server.url, cache, await issueToken(server, ...scopes));
}

async function read(cache: string, file: string, scope = `read:${cache}`): Promise<Buffer | number> {
  const response = await new Uploader(`${server.url}/${cache}`, await issueToken(server, scope)).get(file);
  return response.status === 200 ? Buffer.from(await response.arrayBuffer()) : response.status;
}

/** The NAR as the cache serves it, by way of its narinfo. */
async function servedNar({ hash }: TestPath, cache = 'main'): Promise<Buffer | number> {
  const text = await read(cache, `${hash}.narinfo`);
  if (typeof text === 'number') return text;
  const url = /^URL: (.*)\.zst$/m.exec(text.toString())?.[1] ?? '';
  return await read(cache, url);
}

const progress = async (): Promise<void> => await Promise.resolve();

/** Text with references, which have places, and noise, which does not compress. */
function contents(seed: string, size = 700_000): Buffer {
  const reference = `/nix/store/${'abcdfghijklmnpqrsvwxyz0123456789'.slice(0, 32)}-${seed}-1.0/bin\n`;
  return Buffer.concat([
    Buffer.from(`${seed} ${reference}`.repeat(9)),
    randomBytes(size),
    Buffer.from(reference),
  ]);
}

test('GET tells a writer the terms, and nobody else', async () => {
  const terms = await main.terms();
  assert.deepEqual(terms, {
    status: 200,
    body: {
      protocol: 2,
      chunker: 2,
      normaliser: 1,
      maxBundle: 33_554_431,
      bundlesAtOnce: 2,
      storeDir: '/nix/store',
    },
  });
  assert.equal((await (await senderFor('main', 'read:main')).terms()).status, 403);
  assert.equal((await new BundleSender(server.url, 'main').terms()).status, 401);
  assert.equal((await (await senderFor('secret', 'write:main')).terms()).status, 401);
  assert.equal((await (await senderFor('nothing', 'write:main')).terms()).status, 401);
  assert.equal((await main.request('PUT', '/bundles', undefined)).status, 405);
  assert.equal((await main.request('GET', '/else', undefined)).status, 404);
});

test('a bundle publishes its paths, and their NARs come back as they were', async () => {
  const paths = [await testPath('large', contents('large')), await testPath('small', Buffer.from('small'))];
  const records = await Promise.all(
    paths.map(async (one) => [begin(one), ...(await chunksOf(one.nar)).map(sent), pathRecord(one)]),
  );
  const answer = await main.send(bundleOf(...records.flat()));
  assert.deepEqual(answer, {
    status: 200,
    body: { paths: paths.map(({ storePath }) => ({ storePath })), lost: [] },
  });
  for (const one of paths) assert.ok(one.nar.equals((await servedNar(one)) as Buffer));
  const again = await main.send(bundleOf(...records.flat()));
  assert.equal(again.status, 200);
});

test('the narinfo states the length of what is served', async () => {
  const one = await testPath('with-length', contents('with-length'));
  await main.send(await wholeBundle(one));
  const text = String(await read('main', `${one.hash}.narinfo`));
  const url = /^URL: (.*)$/m.exec(text)?.[1] ?? '';
  const size = Number(/^FileSize: (.*)$/m.exec(text)?.[1]);
  assert.equal(((await read('main', url)) as Buffer).length, size);
});

test('a path with the bytes of another needs no chunks; nothing is said of bytes in caches that one may not read', async () => {
  const first = await testPath('twin-one', contents('twin'));
  const second = { ...first, ...(await testPath('twin-two', Buffer.from(''))), nar: first.nar };
  await main.send(await wholeBundle(first));
  assert.equal((await main.send(bundleOf(pathRecord(second)))).status, 200);
  assert.ok(first.nar.equals((await servedNar(second)) as Buffer));
  const other = await senderFor('secret', 'write:secret');
  const hidden = await testPath('hidden', contents('hidden'));
  await other.send(await wholeBundle(hidden));
  assert.equal((await main.send(bundleOf(pathRecord(hidden)))).status, 400);
});

test('chunks are held for those who may read a cache that has them, and for whoever sent them', async () => {
  const secret = await senderFor('secret', 'write:secret');
  const one = await testPath('scoped', contents('scoped'));
  const chunks = await chunksOf(one.nar);
  const none = 'm'.repeat(chunks.length);
  const all = 'h'.repeat(chunks.length);
  assert.equal(await secret.missingChunks(chunks), none);
  await secret.send(await wholeBundle(one));
  assert.equal(await secret.missingChunks(chunks), all);
  assert.equal(await main.missingChunks(chunks), none, 'of another cache');
  assert.equal(await (await senderFor('main', 'write:*')).missingChunks(chunks), all, 'reads both');
  const counted = await main.send(bundleOf(begin(one), ...chunks.map(named), pathRecord(one)));
  const absent = await testPath('nowhere', contents('nowhere'));
  const nowhere = await main.send(
    bundleOf(begin(absent), ...(await chunksOf(absent.nar)).map(named), pathRecord(absent)),
  );
  assert.deepEqual(counted, nowhere, 'the same answer as for what is nowhere');
  assert.deepEqual([counted.status, counted.body.absent], [409, true]);
  assert.equal((await main.send(await wholeBundle(one))).status, 200);
  assert.equal(await main.missingChunks(chunks), all);
});

test('what was sent of a NAR is durable: only the rest is sent later, by the same writer', async () => {
  const one = await testPath('in-parts', contents('in-parts', 1_500_000));
  const chunks = await chunksOf(one.nar);
  const half = chunks.slice(0, chunks.length >> 1);
  assert.equal((await main.send(bundleOf(begin(one), ...half.map(sent)))).status, 200);
  assert.equal(await servedNar(one), 404);
  const held = 'h'.repeat(half.length) + 'm'.repeat(chunks.length - half.length);
  assert.equal(await main.missingChunks(chunks), held);
  assert.equal(await (await senderFor('main', 'write:main')).missingChunks(half), 'm'.repeat(half.length));
  const rest = chunks.slice(half.length).map(sent);
  const answer = await main.send(bundleOf(begin(one), ...half.map(named), ...rest, pathRecord(one)));
  assert.equal(answer.status, 200);
  assert.ok(one.nar.equals((await servedNar(one)) as Buffer));
});

test('a NAR goes on in the next bundle; where its beginning is not known, its chunks are named once more', async () => {
  const one = await testPath('resumed', contents('resumed', 1_500_000));
  const chunks = await chunksOf(one.nar);
  const [first, second, third] = [chunks.slice(0, 3), chunks.slice(3, 6), chunks.slice(6)];
  await main.send(bundleOf(begin(one), ...first.map(sent)));
  await main.send(bundleOf(resume(one, 3), ...second.map(sent)));
  const end = bundleOf(resume(one, 6), ...third.map(sent), pathRecord(one));
  assert.deepEqual((await main.send(end)).body, { paths: [{ storePath: one.storePath }], lost: [] });
  assert.ok(one.nar.equals((await servedNar(one)) as Buffer));

  const other = await testPath('lost', contents('lost', 1_500_000));
  const parts = await chunksOf(other.nar);
  await main.send(bundleOf(begin(other), ...parts.slice(0, 3).map(sent)));
  const answer = await main.send(bundleOf(resume(other, 2), ...parts.slice(3).map(sent), pathRecord(other)));
  assert.equal(answer.status, 400);
  assert.equal(answer.body.lost?.length, 1);
  assert.equal(await servedNar(other), 404);
  const names = bundleOf(begin(other), ...parts.map(named), pathRecord(other));
  assert.equal((await main.send(names)).status, 200);
  assert.ok(other.nar.equals((await servedNar(other)) as Buffer));
});

test('chunks that share a frame are held each by itself, and a frame of which a part is stored already is taken', async () => {
  const one = await testPath('sharing', contents('sharing'));
  const chunks = await chunksOf(one.nar);
  assert.ok(chunks.length >= 6);
  assert.equal(
    (await main.send(bundleOf(begin(one), ...(await framed(chunks)), pathRecord(one)))).status,
    200,
  );
  assert.equal(await main.missingChunks(chunks), 'h'.repeat(chunks.length));
  assert.ok(one.nar.equals((await servedNar(one)) as Buffer));
  // Another NAR counts on two of them, out of the middle of a frame, and brings the others once more.
  const two = { ...(await testPath('sharing-too', Buffer.from(''))), nar: one.nar };
  const other = await senderFor('secret', 'write:secret', 'read:main');
  const again = [
    ...(await framed(chunks.slice(0, 1))),
    ...chunks.slice(1, 3).map(named),
    ...(await framed(chunks.slice(3))),
  ];
  assert.equal((await other.send(bundleOf(begin(two), ...again, pathRecord(two)))).status, 200);
  assert.ok(one.nar.equals((await servedNar(two, 'secret')) as Buffer));
});

const version = (changed: string): Buffer =>
  Buffer.concat([noise(500_000, 'begin'), noise(200_000, changed), noise(700_000, 'end')]);

test('a NAR of which one chunk is new is served with parts of frames, and its narinfo states that length', async () => {
  const [old, update] = [
    await testPath('parts-old', version('old')),
    await testPath('parts-new', version('new')),
  ];
  const parts = await chunksOf(old.nar);
  assert.equal(
    (await main.send(bundleOf(begin(old), ...(await framed(parts)), pathRecord(old)))).status,
    200,
  );
  const chunks = await chunksOf(update.nar);
  const missing = await main.missingChunks(chunks);
  assert.match(missing, /h+m+h+/);
  const changed = chunks.map((chunk, n) => (missing[n] === 'm' ? sent(chunk) : named(chunk)));
  assert.equal((await main.send(bundleOf(begin(update), ...changed, pathRecord(update)))).status, 200);
  assert.ok(update.nar.equals((await servedNar(update)) as Buffer));
  const text = String(await read('main', `${update.hash}.narinfo`));
  const stream = (await read('main', /^URL: (.*)$/m.exec(text)?.[1] ?? '')) as Buffer;
  assert.equal(stream.length, Number(/^FileSize: (.*)$/m.exec(text)?.[1]));
  const unpacked = execFileSync('zstd', ['-dcq'], { input: stream, maxBuffer: 8_000_000 });
  assert.ok(unpacked.equals(update.nar));
});

test('garbage collection spares what waits for the rest of its NAR, and takes it when its time is over', async () => {
  const one = await testPath('waiting', contents('waiting'));
  const chunks = await chunksOf(one.nar);
  await main.send(bundleOf(begin(one), ...chunks.slice(0, 3).map(sent)));
  const collect = async (now: number): Promise<void> => {
    await collectChunks(server.database, { now, graceMs: 0, progress });
  };
  await collect(Date.now());
  await collect(Date.now());
  assert.equal(await main.missingChunks(chunks.slice(0, 3)), 'hhh');
  const later = Date.now() + 25 * 3600 * 1000;
  await collect(later);
  await collect(later + 1);
  assert.equal(await main.missingChunks(chunks.slice(0, 3)), 'mmm');
  const row = await server.database.read
    .selectFrom('chunk')
    .select('hash')
    .where('hash', '=', chunks[1]?.hash ?? Buffer.alloc(0))
    .executeTakeFirst();
  assert.equal(row, undefined);
});

test('a contributor fills its overlay by bundles, and nothing else', async () => {
  const contributor = await senderFor('main', 'contribute:main');
  const one = await testPath('contributed', contents('contributed'));
  assert.equal((await contributor.send(await wholeBundle(one))).status, 200);
  assert.equal(await servedNar(one), 404);
  const overlays = await server.database.read
    .selectFrom('store_path')
    .innerJoin('cache', 'cache.id', 'store_path.cache_id')
    .select(['cache.name', 'cache.base_id'])
    .where('store_path', '=', one.storePath)
    .execute();
  assert.equal(overlays.length, 1);
  assert.match(overlays[0]?.name ?? '', /^main~/);
  const chunks = await chunksOf(one.nar);
  assert.equal(await contributor.missingChunks(chunks), 'h'.repeat(chunks.length));
  const another = await senderFor('main', 'contribute:main');
  assert.equal(await another.missingChunks(chunks), 'm'.repeat(chunks.length));
  assert.equal(await main.missingChunks(chunks), 'h'.repeat(chunks.length), 'trusted writers read overlays');
});
