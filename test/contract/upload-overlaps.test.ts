// Bundles of one push that overlap: the next is on its way before the one before is answered.
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { temporaryFolder } from '../e2e/cache-scene.ts';
import { issueToken, openCacheServer, type CacheServer } from './cache-server.ts';
import { testPath, Uploader, type TestPath } from './cache-uploads.ts';
import {
  begin,
  BundleSender,
  bundleOf,
  chunksOf,
  named,
  pathRecord,
  resume,
  sent,
  wholeBundle,
  type SentChunk,
} from './upload-bundles.ts';

const folder = temporaryFolder('upload-overlaps');
let server: CacheServer;
let main: BundleSender;
let token: string;

before(async () => {
  server = await openCacheServer(path.join(folder.path, 'data'));
  token = await issueToken(server, 'write:main', 'read:main');
  main = new BundleSender(server.url, 'main', token);
});
after(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

/** By then the server is at what was sent to it, also on a busy machine. */
const REGISTERED_MS = 500;

/** A NAR of several chunks, in two halves. */
async function halves(name: string): Promise<{
  readonly one: TestPath;
  readonly first: readonly SentChunk[];
  readonly second: readonly SentChunk[];
}> {
  const one = await testPath(name, randomBytes(900_000));
  const chunks = await chunksOf(one.nar);
  return { one, first: chunks.slice(0, 4), second: chunks.slice(4) };
}

async function isServed({ hash, nar }: TestPath): Promise<boolean> {
  const cache = new Uploader(`${server.url}/main`, token);
  const info = await cache.get(`${hash}.narinfo`);
  if (info.status !== 200) return false;
  const url = /^URL: (.*)\.zst$/m.exec(await info.text())?.[1] ?? '';
  return Buffer.from(await (await cache.get(url)).arrayBuffer()).equals(nar);
}

/** Whether it is answered while the one before is not. */
async function isAnswered(answer: Promise<unknown>): Promise<boolean> {
  return await Promise.race([answer.then(() => true), wait(300).then(() => false)]);
}

test('a bundle that goes on with a NAR waits until the one that began it is there', async () => {
  const { one, first, second } = await halves('goes-on');
  const push = randomUUID();
  const slow = main.sendSlowly(bundleOf(begin(one), ...first.map(sent)), push);
  await wait(REGISTERED_MS);
  const end = main.send(bundleOf(resume(one, 4), ...second.map(sent), pathRecord(one)), push);
  assert.equal(await isAnswered(end), false);
  assert.equal((await slow.end()).status, 200);
  assert.deepEqual(await end, { status: 200, body: { paths: [{ storePath: one.storePath }], lost: [] } });
  assert.ok(await isServed(one));
});

test('a bundle may name what the one before it brings', async () => {
  const { one, first, second } = await halves('names');
  const push = randomUUID();
  const slow = main.sendSlowly(bundleOf(begin(one), ...first.map(sent)), push);
  await wait(REGISTERED_MS);
  const names = bundleOf(begin(one), ...first.map(named), ...second.map(sent), pathRecord(one));
  const whole = main.send(names, push);
  assert.equal(await isAnswered(whole), false);
  await slow.end();
  assert.equal((await whole).status, 200);
  assert.ok(await isServed(one));
});

test('when the beginning is cut off, the end is told that it is lost, and names make it whole', async () => {
  const { one, first, second } = await halves('cut-off');
  const push = randomUUID();
  const slow = main.sendSlowly(bundleOf(begin(one), ...first.map(sent)), push);
  await wait(REGISTERED_MS);
  const end = main.send(bundleOf(resume(one, 4), ...second.map(sent), pathRecord(one)), push);
  await wait(REGISTERED_MS);
  slow.cut();
  const answer = await end;
  assert.equal(answer.body.lost?.length, 1);
  assert.equal(await isServed(one), false);
  const again = await main.send(
    bundleOf(begin(one), ...first.map(sent), ...second.map(named), pathRecord(one)),
    push,
  );
  assert.equal(again.status, 200);
  assert.ok(await isServed(one));
});

test('when the bundle before is refused, what counted on it is not published', async () => {
  const { one, first, second } = await halves('refused');
  const push = randomUUID();
  const [broken, ...rest] = first.map(sent);
  const bad = { ...broken, frame: Buffer.alloc(100) } as ReturnType<typeof sent>;
  const slow = main.sendSlowly(bundleOf(begin(one), ...rest, bad), push);
  await wait(REGISTERED_MS);
  const end = main.send(
    bundleOf(begin(one), ...first.map(named), ...second.map(sent), pathRecord(one)),
    push,
  );
  assert.equal((await slow.end()).status, 400);
  assert.deepEqual([(await end).status, (await end).body.absent], [409, true]);
  assert.equal(await isServed(one), false);
});

test('bundles of other pushes, and of other writers, do not wait', async () => {
  const { one, first } = await halves('stands-still');
  const push = randomUUID();
  const slow = main.sendSlowly(bundleOf(begin(one), ...first.map(sent)), push);
  await wait(REGISTERED_MS);
  const mine = await testPath('mine', Buffer.from('mine'));
  assert.equal((await main.send(await wholeBundle(mine), randomUUID())).status, 200);
  assert.equal((await main.send(await wholeBundle(mine))).status, 200);
  const other = new BundleSender(server.url, 'main', await issueToken(server, 'write:main'));
  const theirs = await testPath('theirs', Buffer.from('theirs'));
  assert.equal((await other.send(await wholeBundle(theirs), push)).status, 200);
  await slow.end();
});
