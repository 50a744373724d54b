// What the cache refuses: every bad upload gets one clear answer and leaves nothing behind. No nix needed.
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { parseHash } from '../../src/nix/hash.ts';
import { contentAddressedPath } from '../../src/nix/store-path.ts';
import { issueToken, openCacheServer } from './cache-server.ts';
import {
  fileNode,
  narFile,
  narInfo,
  narOf,
  nix32,
  noise,
  pathNamed,
  testPath,
  Uploader,
  type TestPath,
} from './cache-uploads.ts';
import {
  begin,
  BundleSender,
  bundleOf,
  chunksOf,
  pathRecord,
  sent,
  together,
  wholeBundle,
  type UploadAnswer,
} from './upload-bundles.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-refusals-'));
const server = await openCacheServer(join(folder, 'data'));
const writer = new Uploader(`${server.url}/main`, await issueToken(server, 'write:main'));
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

async function served(path: TestPath): Promise<string | undefined> {
  const response = await writer.get(`${path.hash}.narinfo`);
  return response.status === 200 ? await response.text() : undefined;
}

async function directoryNar(...names: string[]): Promise<Buffer> {
  async function* entries() {
    for (const name of names) yield await Promise.resolve({ name, node: fileNode(Buffer.from('x')) });
  }
  return await narOf({ type: 'directory', entries });
}

test('PUT refuses a file that is not what its name says', async () => {
  const [one, two] = [await testPath('one', Buffer.from('1')), await testPath('two', Buffer.from('2'))];
  const answer = await writer.put(one.url, two.file);
  assert.equal(answer.status, 400);
  assert.match(answer.text, /another SHA-256/);
  assert.equal((await writer.get(one.url, {}, 'HEAD')).status, 404);
});

test('PUT refuses NARs that are cut, lengthened or against the grammar', async () => {
  const good = await narOf(fileNode(Buffer.from('contents')));
  const hostile = {
    cut: good.subarray(0, -8),
    empty: Buffer.alloc(0),
    longer: Buffer.concat([good, Buffer.alloc(8)]),
    twice: Buffer.concat([good, good]),
    'not a NAR': Buffer.from('hello world, this is not a NAR'),
    unsorted: await directoryNar('b', 'a'),
    doubled: await directoryNar('a', 'a'),
    parent: await directoryNar('..'),
    slash: await directoryNar('a/b'),
  };
  for (const [what, nar] of Object.entries(hostile)) {
    const path = { ...narFile(nar, zstdCompressSync(nar)), ...pathNamed('hostile') };
    const answer = await writer.push(path);
    assert.equal(answer.status, 400, what);
    assert.match(answer.text, /NAR/, what);
    assert.equal((await writer.get(path.url, {}, 'HEAD')).status, 404, what);
  }
});

test('PUT refuses a broken or truncated zstd stream', async () => {
  const path = await testPath('broken', noise(100_000, 'broken'));
  const bent = Buffer.from(path.file.subarray(0, 60_000));
  const cut = { ...narFile(path.nar, bent), ...pathNamed('broken') };
  const answer = await writer.push(cut);
  assert.equal(answer.status, 400);
  assert.match(answer.text, /zstd stream/);
});

test('a connection that is cut during an upload leaves nothing visible', async () => {
  const path = await testPath('cut-off', noise(2_000_000, 'cut-off'));
  const { host, hostname, port } = new URL(server.url);
  const token = await issueToken(server, 'write:main');
  await new Promise<void>((resolve) => {
    const socket = connect(Number(port), hostname, () => {
      socket.write(
        `PUT /main/${path.url} HTTP/1.1\r\nhost: ${host}\r\nauthorization: Bearer ${token}\r\ncontent-length: ${path.file.length}\r\n\r\n`,
      );
      socket.write(path.file.subarray(0, 1_000_000), () => setTimeout(() => socket.destroy(), 50));
    });
    socket.once('close', resolve);
  });
  await new Promise((resolve) => setTimeout(resolve, 100));
  const own = new Uploader(`${server.url}/main`, token);
  assert.equal((await own.get(path.url, {}, 'HEAD')).status, 404);
  assert.equal((await own.push(path)).status, 200);
});

test('PUT of a narinfo refuses what does not fit the uploaded NAR', async () => {
  const path = await testPath('claims', Buffer.from('claims'));
  const other = await testPath('other', Buffer.from('other'));
  const lies: Record<string, Record<string, string | undefined>> = {
    'another hash': { NarHash: `sha256:${nix32(other.nar)}` },
    'another size': { NarSize: '1' },
    'another file hash': { FileHash: `sha256:${nix32(other.file)}` },
    'another file size': { FileSize: '1' },
    'another path': { StorePath: other.storePath },
    'another store': { StorePath: path.storePath.replace('/nix/', '/gnu/') },
    'a file never sent': { URL: `nar/${'0'.repeat(52)}.nar.zst` },
    'an absolute URL': { URL: 'http://example.org/x.nar' },
    'a missing reference': { References: other.storePath.slice('/nix/store/'.length) },
    'a broken reference': { References: '../../etc/passwd' },
    'no hash': { NarHash: undefined },
    'a false content address': { CA: `fixed:r:sha256:${nix32(path.nar)}` },
    'an unknown content address': { CA: 'magic:sha256:1' },
  };
  for (const [what, changes] of Object.entries(lies)) {
    const answer = await writer.push(path, changes);
    assert.equal(answer.status, 400, `${what}: ${answer.text}`);
    assert.equal(await served(path), undefined, what);
  }
});

test('PUT of an over-long narinfo is 413, whether it says its length or not', async () => {
  const path = await testPath('long', Buffer.from('long'));
  const long = `${narInfo(path)}Sig: ${'x'.repeat(2_000_000)}\n`;
  assert.equal((await writer.put(`${path.hash}.narinfo`, long)).status, 413);
});

test('PUT of a narinfo checks a content address against path and bytes', async () => {
  const contents = Buffer.from('content-addressed');
  const plain = await testPath('source', contents);
  const addresses = {
    nar: { ca: `fixed:r:sha256:${nix32(plain.nar)}`, method: 'nar', hash: nix32(plain.nar) },
    flat: { ca: `fixed:sha256:${nix32(contents)}`, method: 'flat', hash: nix32(contents) },
    text: { ca: `text:sha256:${nix32(contents)}`, method: 'text', hash: nix32(contents) },
  } as const;
  for (const { ca, method, hash } of Object.values(addresses)) {
    const address = { method, hash: parseHash(`sha256:${hash}`) };
    const storePath = contentAddressedPath({ name: 'source', address, references: [] });
    const path = { ...plain, storePath, hash: storePath.slice(11, 43) };
    assert.equal((await writer.push(path, { CA: ca })).status, 200, ca);
    const other = await testPath('source', Buffer.from('other bytes'));
    const false_ = { ...other, storePath, hash: storePath.slice(11, 43) };
    assert.equal((await writer.push(false_, { CA: ca })).status, 400, ca);
  }
});

test('the first NAR of a path wins: another one is 409, recorded, and changes nothing', async () => {
  const [first, second] = [
    await testPath('contested', Buffer.from('a')),
    await testPath('contested', Buffer.from('b')),
  ];
  assert.equal((await writer.push(first)).status, 200);
  const before = await served(first);
  const refused = await writer.push(second);
  assert.equal(refused.status, 409);
  assert.match(refused.text, /The first upload of a path wins/);
  assert.equal(await served(first), before);
  const conflicts = await server.database.read.selectFrom('path_conflict').selectAll().execute();
  assert.equal(conflicts.filter(({ store_path }) => store_path === first.storePath).length, 1);
});

test('a NAR over the size limit is refused while it arrives, also as a bomb', async () => {
  await using small = await openCacheServer(join(folder, 'small'), { maxNarSize: 1_000_000 });
  const client = new Uploader(`${small.url}/main`, await issueToken(small, 'write:main'));
  const bomb = await testPath('bomb', Buffer.alloc(200_000_000));
  const answer = await client.push(bomb);
  assert.equal(answer.status, 400);
  assert.match(answer.text, /larger than the whole may be/);
  assert.equal((await client.push(await testPath('huge', noise(3_000_000, 'huge')))).status, 413);
});

/** A contributor of a cache of its own, which may hold a megabyte. */
async function contributorOf(name: string): Promise<{ bundles: BundleSender; nars: Uploader }> {
  const settings = { isPublic: true, priority: 1, storeDir: '/nix/store', closed: true };
  await server.cache.caches.create({ name, ...settings, quotaBytes: 1_000_000 });
  const token = await issueToken(server, `contribute:${name}`);
  const nars = new Uploader(`${server.url}/${name}`, token);
  return { bundles: new BundleSender(server.url, name, token), nars };
}

const failureOf = ({ body }: UploadAnswer): string | undefined => body.paths?.[0]?.failure?.code;

function assertFull(answer: UploadAnswer): void {
  assert.deepEqual([answer.status, answer.body.error?.code], [413, 'too_large']);
  assert.match(
    answer.body.error?.message ?? '',
    /no paths wait in the cache .*, which may hold 1000000 bytes/,
  );
}

test('chunks that become no path count for the quota, whatever becomes of their bundles', async () => {
  const { bundles, nars } = await contributorOf('refused-paths');
  const names = ['waits-1', 'waits-2', 'waits-3'];
  const paths = names.map(async (name) => await testPath(name, noise(450_000, name)));
  const [one, two, three] = (await Promise.all(paths)) as [TestPath, TestPath, TestPath];
  const reference = pathNamed('absent').storePath.slice(11);
  const refused = bundleOf(
    begin(one),
    ...(await chunksOf(one.nar)).map(sent),
    pathRecord(one, { References: reference }),
  );
  for (let n = 0; n < 3; n++) assert.equal(failureOf(await bundles.send(refused)), 'narinfo_invalid');
  await bundles.send(bundleOf(begin(two), ...(await chunksOf(two.nar)).map(sent)));
  const published = await testPath('published', noise(90_000, 'published'));
  assert.equal((await bundles.send(await wholeBundle(published))).status, 200, 'paths do not wait');
  await bundles.send(bundleOf(begin(three), ...(await chunksOf(three.nar)).map(sent)));
  assertFull(await bundles.send(await wholeBundle(await testPath('small', Buffer.from('small')))));
  assert.equal((await nars.push(await testPath('nar', Buffer.from('nar')))).status, 413);
});

test('what a frame has beside new chunks counts, too: copies of what is there', async () => {
  const { bundles } = await contributorOf('copies');
  const one = await testPath('copied', noise(400_000, 'copied'));
  const chunks = await chunksOf(one.nar);
  await bundles.send(bundleOf(begin(one), ...chunks.map(sent)));
  for (let n = 0; n < 2; n++) {
    const [fresh] = await chunksOf((await testPath(`fresh-${n}`, noise(70_000, `fresh ${n}`))).nar);
    assert.ok(fresh);
    const answer = await bundles.send(bundleOf(begin(one), await together([fresh, ...chunks])));
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
  }
  assertFull(await bundles.send(await wholeBundle(await testPath('copies-end', Buffer.from('end')))));
});

test('uploads that fail count for the quota when they may have left something', async () => {
  const { nars } = await contributorOf('failures');
  for (const name of ['cut-1', 'cut-2']) {
    const nar = (await testPath(name, noise(600_000, name))).nar.subarray(0, -8);
    const { url, file } = narFile(nar, zstdCompressSync(nar));
    assert.equal((await nars.put(url, file)).status, 400);
  }
  const answer = await nars.push(await testPath('after-failures', Buffer.from('after')));
  assert.equal(answer.status, 413);
  assert.match(answer.text, /no paths wait in the cache/);
});

test('a key file that others can read is refused, and nothing is published with it', async () => {
  await using other = await openCacheServer(join(folder, 'loose-key'));
  const client = new Uploader(`${other.url}/main`, await issueToken(other, 'write:main'));
  chmodSync(join(other.data, 'keys', 'cache-main.key'), 0o644);
  await new Promise((resolve) => setTimeout(resolve, 0));
  const answer = await client.push(await testPath('loose', Buffer.from('loose')));
  assert.equal(answer.status, 400);
  assert.match(answer.text, /can be read by others/);
});
