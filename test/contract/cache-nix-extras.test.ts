// The rest of Nix's HTTP protocol: listings, URLs of other servers, compressed side files and narinfos, realisations,
// debug info.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Readable } from 'node:stream';
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { decompressed } from '../../src/cache/ingest/decompress.ts';
import { quarantineWriter } from '../../src/cache/trust/quarantine.ts';
import { issueToken, openCacheServer } from './cache-server.ts';
import { narInfo, nix32, noise, pathNamed, testPath, Uploader } from './cache-uploads.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-nix-extras-'));
const server = await openCacheServer(join(folder, 'data'));
const writer = new Uploader(`${server.url}/main`, await issueToken(server, 'write:main'));
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

test('a listing is made from the NAR when none was sent, once, and one that was sent is kept', async () => {
  const path = await testPath('listed', noise(300_000, 'listed'));
  await writer.push(path);
  const expected = '{"version":1,"root":{"type":"regular","size":300000,"narOffset":96}}';
  const answers = await Promise.all([1, 2, 3].map(async () => await writer.get(`${path.hash}.ls`)));
  for (const answer of answers) {
    assert.equal(answer.headers.get('content-type'), 'application/json');
    assert.equal(await answer.text(), expected);
  }
  const rows = await server.database.read.selectFrom('side_file').selectAll().execute();
  assert.equal(rows.filter((row) => row.name === `${path.hash}.ls`).length, 1);
  const sent = gzipSync('{"version":1,"root":{"type":"symlink","target":"x"}}');
  await writer.put(`${path.hash}.ls`, sent, { 'content-encoding': 'gzip' });
  const answer = await writer.get(`${path.hash}.ls`);
  assert.equal(answer.headers.get('content-encoding'), 'gzip');
  assert.match(await answer.text(), /symlink/);
  assert.equal((await writer.get(`${pathNamed('never').hash}.ls`)).status, 404);
});

test('a private cache does not say whether there is something to list', async () => {
  for (const name of ['secret', 'absent'])
    assert.equal((await fetch(`${server.url}/${name}/${pathNamed('x').hash}.ls`)).status, 401);
});

test('the listing of a path goes with it', async () => {
  const { info, token } = await server.tokens.create({
    name: 'bad',
    scopes: [{ kind: 'write', pattern: 'main' }],
  });
  const bad = new Uploader(`${server.url}/main`, token);
  const path = await testPath('listed-bad', Buffer.from('evil'));
  await bad.push(path);
  assert.equal((await writer.get(`${path.hash}.ls`)).status, 200);
  await quarantineWriter(server.database, info.id);
  assert.equal((await writer.get(`${path.hash}.ls`)).status, 404);
});

test("nix-serve's and Attic's URLs of NARs answer, with length and ranges", async () => {
  const path = await testPath('moved', noise(400_000, 'moved'));
  await writer.push(path);
  const plain = await writer.get(`nar/${path.hash}-${nix32(path.nar)}.nar`);
  assert.ok(Buffer.from(await plain.arrayBuffer()).equals(path.nar));
  const attic = Buffer.from(await (await writer.get(`nar/${path.hash}.nar`)).arrayBuffer());
  const parts: Buffer[] = [];
  for await (const piece of decompressed(Readable.from([attic]), 'zstd')) parts.push(piece);
  assert.ok(Buffer.concat(parts).equals(path.nar));
  const part = await writer.get(`nar/${path.hash}-${nix32(path.nar)}.nar`, { range: 'bytes=100-199' });
  assert.equal(part.status, 206);
  assert.ok(Buffer.from(await part.arrayBuffer()).equals(path.nar.subarray(100, 200)));
  assert.equal((await writer.get(`nar/${nix32(path.nar)}.nar?hash=${path.hash}`, {}, 'HEAD')).status, 200);
  for (const absent of [
    `nar/${path.hash}-${nix32(Buffer.from('other'))}.nar`,
    `nar/${pathNamed('other').hash}.nar`,
    `nar/${path.hash}.nar.xz`,
    `nar/../${path.hash}.nar`,
  ])
    assert.equal((await writer.get(absent)).status, 404, absent);
});

test('a narinfo may come compressed, but not as a bomb', async () => {
  const path = await testPath('compressed-info', Buffer.from('x'));
  await writer.put(path.url, path.file);
  const put = async (body: Buffer, encoding: string): Promise<number> =>
    (await writer.put(`${path.hash}.narinfo`, body, { 'content-encoding': encoding })).status;
  const text = Buffer.from(narInfo(path));
  assert.equal(await put(text, 'br'), 400);
  assert.equal(await put(text, 'x-unknown'), 400);
  assert.equal(await put(gzipSync(Buffer.alloc(50_000_000)), 'gzip'), 400);
  assert.equal(await put(brotliCompressSync(text), 'br'), 200);
  assert.equal(await put(zstdCompressSync(text), 'zstd'), 200);
  assert.equal(await put(gzipSync(text), 'gzip'), 200);
});

test('realisations, build traces and debug info come back as they were sent', async () => {
  const names = [
    `realisations/sha256:${'b'.repeat(64)}!dev.doi`,
    'build-trace-v2/0c0j3ckyi0gcqv4i3zwv9zn8k0s5k9x1-hello.drv/out.doi',
    `debuginfo/${'c'.repeat(40)}`,
    `debuginfo/${'c'.repeat(40)}.debug`,
  ];
  for (const name of names) {
    const body = JSON.stringify({ name });
    assert.equal((await writer.put(name, body, { 'content-type': 'application/json' })).status, 200, name);
    assert.equal(await (await writer.get(name)).text(), body);
    assert.equal((await writer.get(name, {}, 'HEAD')).status, 200);
  }
  for (const name of [
    'realisations/../x.doi',
    'debuginfo/short',
    'build-trace-v2/a/b/c.doi',
    'realisations/x.doi',
  ])
    assert.equal((await writer.put(name, '{}')).status, 404, name);
});
