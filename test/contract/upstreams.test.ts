// Pull-through against an upstream that works: what is served, what is kept, and how often the upstream is asked.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { UpstreamConfig } from '../../src/api/source-config.ts';
import { parseNarInfo, fingerprint } from '../../src/nix/narinfo.ts';
import { parsePublicKey, parseSecretKey, publicKeyOf, verifyText } from '../../src/nix/signature.ts';
import { exec } from '../../src/effects/exec.ts';
import { temporaryFolder } from '../e2e/cache-scene.ts';
import { issueToken, openCacheServer, type CacheServer } from './cache-server.ts';
import { noise, testPath, Uploader } from './cache-uploads.ts';
import { openUpstreamServer, type UpstreamPath } from './upstream-server.ts';

const folder = temporaryFolder('upstreams');
const upstream = await openUpstreamServer();
const server = await openCacheServer(join(folder.path, 'data'));
after(async () => {
  await server[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
  await folder.remove();
});

const config: UpstreamConfig = { url: upstream.url, keys: [upstream.publicKey], sign: false };
await server.cache.caches.configure('main', { upstreams: [config] });
const main = `${server.url}/main`;

async function get(
  url: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; body: Buffer }> {
  const response = await fetch(url, { headers });
  return { status: response.status, body: Buffer.from(await response.arrayBuffer()) };
}

async function infoOf(path: UpstreamPath, cache = main) {
  const { status, body } = await get(`${cache}/${path.hash}.narinfo`);
  assert.equal(status, 200);
  return parseNarInfo(body.toString());
}

/** What the server has once a fetch is over; a NAR is stored a moment after its last byte went out. */
async function stored(path: UpstreamPath, from: CacheServer = server): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const rows = await from.database.read
      .selectFrom('store_path')
      .select('writer')
      .where('hash', '=', path.hash)
      .execute();
    if (rows.length > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`${path.storePath} was not stored`);
}

async function xz(bytes: Buffer): Promise<Buffer> {
  return (await exec(['xz', '-c'], { input: bytes, timeoutMs: 60_000 })).stdout;
}

test('a path of an upstream is served with its signatures alone, then from storage when the upstream is gone', async () => {
  const path = await upstream.add('plain', noise(300_000, 'plain'));
  const offered = await infoOf(path);
  assert.equal(offered.compression, 'none');
  assert.ok(
    verifyText([parsePublicKey(upstream.publicKey)], fingerprint(offered), offered.signatures[0] ?? ''),
  );
  assert.equal(offered.signatures.length, 1);
  const url = `${main}/${offered.url}`;
  assert.ok((await get(url)).body.equals(path.nar));
  await stored(path);
  await upstream.stop();
  const kept = await infoOf(path);
  assert.equal(kept.compression, 'zstd');
  assert.deepEqual(kept.signatures, offered.signatures);
  assert.ok((await get(url)).body.equals(path.nar), 'the URL that was handed out first keeps answering');
  assert.ok((await get(`${main}/${kept.url.replace('.zst', '')}`)).body.equals(path.nar));
  await upstream.start();
});

test('with sign, the own key vouches for what the upstream has signed', async () => {
  await server.cache.caches.configure('secret', { upstreams: [{ ...config, sign: true }] });
  const token = await issueToken(server, 'read:secret');
  const path = await upstream.add('vouched', noise(10_000, 'vouched'));
  const headers = { authorization: `Bearer ${token}` };
  const [text] = await server.cache.keys.readText('secret');
  const own = parsePublicKey(publicKeyOf(parseSecretKey(text ?? '')));
  for (const round of ['offered', 'stored']) {
    const info = parseNarInfo(
      (await get(`${server.url}/secret/${path.hash}.narinfo`, headers)).body.toString(),
    );
    const valid = info.signatures.filter((one) =>
      verifyText([own, parsePublicKey(upstream.publicKey)], fingerprint(info), one),
    );
    assert.equal(valid.length, 2, round);
    assert.ok((await get(`${server.url}/secret/${info.url}`, headers)).status === 200);
    await stored(path);
  }
});

test('every compression that can be read comes through; bzip2 counts as absent', async () => {
  for (const compression of ['none', 'zstd', 'br', 'gzip', 'xz'] as const) {
    const path = await upstream.add(compression, noise(200_000, compression), {
      compression,
      ...(compression === 'xz' && { pack: xz }),
    });
    const info = await infoOf(path);
    assert.ok((await get(`${main}/${info.url}`)).body.equals(path.nar), compression);
  }
  const path = await upstream.add('bzip2', noise(1000, 'bzip2'), { compression: 'bzip2' });
  assert.equal((await get(`${main}/${path.hash}.narinfo`)).status, 404);
});

test('50 clients at once are one question and one fetch, whichever part each wants', async () => {
  const path = await upstream.add('stampede', randomBytes(6_000_000));
  const before = upstream.requests.length;
  const answers = await Promise.all(
    Array.from({ length: 50 }, async (_, n) => {
      const info = await infoOf(path);
      const start = n * 100_000;
      const { status, body } = await get(`${main}/${info.url}`, { range: `bytes=${start}-` });
      return status === 206 && body.equals(path.nar.subarray(start));
    }),
  );
  assert.deepEqual(new Set(answers), new Set([true]));
  const asked = upstream.requests.slice(before);
  assert.equal(asked.filter((url) => url.endsWith('.narinfo')).length, 1);
  assert.equal(asked.filter((url) => url.startsWith('/nar/')).length, 1);
});

test('absence is remembered: the upstream is asked once', async () => {
  const hash = 'z'.repeat(31);
  const before = upstream.requests.length;
  for (let n = 0; n < 5; n++) assert.equal((await get(`${main}/1${hash}.narinfo`)).status, 404);
  const asked = upstream.requests.slice(before).filter((url) => url.includes(hash));
  assert.equal(asked.length, 1);
});

test('a large NAR begins to arrive while the upstream still sends it', async () => {
  const path = await upstream.add('slow', randomBytes(9_000_000), { compression: 'none' });
  const { promise, resolve } = Promise.withResolvers<void>();
  upstream.misbehave = ({ url }, response) => {
    if (url !== path.file) return false;
    response.writeHead(200, { 'content-length': path.nar.length });
    response.write(path.nar.subarray(0, 6_000_000));
    void promise.then(() => response.end(path.nar.subarray(6_000_000)));
    return true;
  };
  const { url } = await infoOf(path);
  const response = await fetch(`${main}/${url}`);
  assert.equal(response.headers.get('content-length'), String(path.nar.length));
  let size = 0;
  for await (const piece of response.body ?? []) {
    size += piece.length;
    resolve(); // the upstream sends the rest only once something has come out here
  }
  assert.equal(size, path.nar.length);
  upstream.misbehave = undefined;
});

test('what an upstream has is no own path: pushing the same bytes makes it one', async () => {
  const pushed = await testPath('both', noise(50_000, 'both'));
  const path = await upstream.add('both', noise(50_000, 'both'));
  await get(`${main}/${(await infoOf(path)).url}`);
  await stored(path);
  const writer = async (): Promise<string | undefined> =>
    (
      await server.database.read
        .selectFrom('store_path')
        .select('writer')
        .where('hash', '=', path.hash)
        .executeTakeFirst()
    )?.writer;
  assert.match((await writer()) ?? '', /^upstream:127\.0\.0\.1/);
  const uploader = new Uploader(main, await issueToken(server, 'write:main'));
  assert.equal((await uploader.push(pushed)).status, 200);
  assert.doesNotMatch((await writer()) ?? '', /^upstream:/);
});

test('a pushed path may refer to what only the upstream has', async () => {
  const base = await upstream.add('base', noise(1000, 'base'));
  const pushed = await testPath('needs-base', noise(1000, 'needs-base'));
  const uploader = new Uploader(main, await issueToken(server, 'write:main'));
  const references = base.storePath.slice('/nix/store/'.length);
  assert.deepEqual(await uploader.push(pushed, { References: references }), { status: 200, text: '' });
});

test('new keys of the cache do not sign what was only fetched', async () => {
  const path = await upstream.add('unvouched', noise(2000, 'unvouched'));
  await get(`${main}/${(await infoOf(path)).url}`);
  await stored(path);
  const keys = await server.cache.keys.readText('main');
  await server.cache.replaceKeys('main', keys);
  assert.deepEqual(
    (await infoOf(path)).signatures.map((one) => one.split(':')[0]),
    ['upstream-1'],
  );
});

test('another Slipway is an upstream like any other, asked with its token', async () => {
  await using second = await openCacheServer(join(folder.path, 'second'));
  const uploader = new Uploader(`${second.url}/secret`, await issueToken(second, 'write:secret'));
  const path = await testPath('elsewhere', randomBytes(5_000_000));
  assert.equal((await uploader.push(path)).status, 200);
  const [text] = await second.cache.keys.readText('secret');
  process.env['SLIPWAY_TEST_UPSTREAM'] = await issueToken(second, 'read:secret');
  const keys = [publicKeyOf(parseSecretKey(text ?? ''))];
  const url = `${second.url}/secret`;
  await server.cache.caches.configure('main', { upstreams: [{ url, keys, sign: false }] });
  assert.equal((await get(`${main}/${path.hash}.narinfo`)).status, 404, 'without a token');
  await server.cache.caches.configure('main', {
    upstreams: [{ url, keys, sign: false, token: 'env:SLIPWAY_TEST_UPSTREAM' }],
  });
  const found = await get(`${main}/${path.hash}.narinfo`);
  assert.equal(found.status, 200);
  assert.ok((await get(`${main}/${parseNarInfo(found.body.toString()).url}`)).body.equals(path.nar));
  await server.cache.caches.configure('main', { upstreams: [config] });
});

test('a build log that the cache lacks comes from the upstream, and no other file does', async () => {
  const name = `log/${'a'.repeat(32)}-hello.drv`;
  const text = Buffer.from('building hello');
  upstream.files.set(`/${name}`, text);
  upstream.files.set('/secrets.txt', text);
  const answer = await fetch(`${main}/${name}`);
  assert.equal(answer.headers.get('content-type'), 'text/plain; charset=utf-8');
  assert.equal(await answer.text(), 'building hello');
  assert.equal((await fetch(`${main}/${name}`, { method: 'HEAD' })).status, 200);
  const asked = upstream.requests.length;
  for (const other of ['secrets.txt', 'log/secrets.txt', 'log/..%2fsecrets.txt'])
    assert.equal((await get(`${main}/${other}`)).status, 404, other);
  assert.equal(upstream.requests.length, asked);
  assert.equal((await get(`${main}/log/${'b'.repeat(32)}-hello.drv`)).status, 404);
  assert.equal((await get(`${server.url}/secret/${name}`)).status, 401);
  await upstream.stop();
  assert.equal((await get(`${main}/${name}`)).status, 404);
  await upstream.start();
});
