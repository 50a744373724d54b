// Upstreams that lie, stall, break off and send us elsewhere: clients get what was signed, or a quick 404.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import type { UpstreamConfig } from '../../src/api/source-config.ts';
import { exec } from '../../src/effects/exec.ts';
import { parseNarInfo } from '../../src/nix/narinfo.ts';
import { generateSecretKey, parseSecretKey, publicKeyOf } from '../../src/nix/signature.ts';
import { formatMetrics } from '../../src/util/metrics.ts';
import { temporaryFolder } from '../e2e/cache-scene.ts';
import { openCacheServer, type CacheServer } from './cache-server.ts';
import { noise } from './cache-uploads.ts';
import { openUpstreamServer, type UpstreamPath } from './upstream-server.ts';

const folder = temporaryFolder('upstream-faults');
const upstream = await openUpstreamServer();
const server = await openCacheServer(join(folder.path, 'data'));
after(async () => {
  await server[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
  await folder.remove();
});
beforeEach(() => {
  upstream.misbehave = undefined;
});

const config: UpstreamConfig = { url: upstream.url, keys: [upstream.publicKey], sign: false };
await server.cache.caches.configure('main', { upstreams: [config] });
const main = `${server.url}/main`;
const strangersKey = publicKeyOf(parseSecretKey(generateSecretKey('upstream-1')));

async function statusOf(path: Pick<UpstreamPath, 'hash'>, cache = main): Promise<number> {
  const response = await fetch(`${cache}/${path.hash}.narinfo`);
  await response.arrayBuffer();
  return response.status;
}

async function narUrl(path: UpstreamPath, cache = main): Promise<string> {
  const response = await fetch(`${cache}/${path.hash}.narinfo`);
  assert.equal(response.status, 200);
  return `${cache}/${parseNarInfo(await response.text()).url}`;
}

async function isHeld(path: UpstreamPath, from: CacheServer = server): Promise<boolean> {
  const rows = from.database.read.selectFrom('store_path').select('hash').where('hash', '=', path.hash);
  return (await rows.execute()).length > 0;
}

/** Another server over its own data, whose caches nobody else changes. */
async function openImpatient(name: string, upstreams: UpstreamConfig[]): Promise<CacheServer> {
  const impatient = await openCacheServer(join(folder.path, name), { lookupMs: 400 });
  await impatient.cache.caches.configure('main', { upstreams });
  return impatient;
}

function took(server: CacheServer, outcome: string): number {
  const text = formatMetrics(server.cache.sources.metrics);
  const line = text
    .split('\n')
    .find((one) => one.startsWith('slipway_upstream_requests_total') && one.includes(`"${outcome}"`));
  return Number(line?.split(' ').at(-1) ?? 0);
}

async function xz(bytes: Buffer): Promise<Buffer> {
  return (await exec(['xz', '-c'], { input: bytes, timeoutMs: 60_000 })).stdout;
}

test('unsigned, signed by a stranger, signed for another path: absent', async () => {
  assert.equal(await statusOf(await upstream.add('unsigned', noise(100, 'a'), { signed: false })), 404);
  const other = await upstream.add('other', noise(100, 'b'));
  const path = await upstream.add('renamed', noise(100, 'c'));
  upstream.files.set(
    `/${path.hash}.narinfo`,
    upstream.files.get(`/${other.hash}.narinfo`) ?? Buffer.alloc(0),
  );
  assert.equal(await statusOf(path), 404);
  await using wary = await openImpatient('wary', [{ ...config, keys: [strangersKey] }]);
  assert.equal(await statusOf(other, `${wary.url}/main`), 404);
  assert.equal(took(wary, 'refused'), 1);
});

test('a small NAR with another hash than the signed one is a 404, then its narinfo too', async () => {
  const path = await upstream.add('small-lie', noise(30_000, 'true'));
  const lie = await upstream.add('lie', noise(30_000, 'false'));
  upstream.files.set(path.file, upstream.files.get(lie.file) ?? Buffer.alloc(0));
  assert.equal((await fetch(await narUrl(path))).status, 404);
  assert.equal(await statusOf(path), 404);
  assert.equal(await isHeld(path), false);
  assert.ok(server.problems.some((problem) => String(problem).includes(path.storePath)));
});

test('a large NAR with another hash is broken off before its end, and never whole', async () => {
  const contents = randomBytes(7_000_000);
  const path = await upstream.add('large-lie', contents, { compression: 'none' });
  const file = Buffer.from(path.nar);
  file[file.length - 100] = (file[file.length - 100] ?? 0) ^ 1;
  upstream.files.set(path.file, file);
  const response = await fetch(await narUrl(path));
  assert.equal(response.status, 200);
  await assert.rejects(response.arrayBuffer());
  assert.equal(await isHeld(path), false);
});

test('a transfer that breaks is taken up where it broke', async () => {
  const path = await upstream.add('broken', randomBytes(2_000_000), { compression: 'none' });
  let cuts = 0;
  upstream.misbehave = (request, response) => {
    if (request.url !== path.file || cuts++ > 0) return false;
    response.writeHead(200, { 'content-length': path.nar.length });
    response.write(path.nar.subarray(0, 1_500_000), () => response.destroy());
    return true;
  };
  const body = Buffer.from(await (await fetch(await narUrl(path))).arrayBuffer());
  assert.ok(body.equals(path.nar));
  assert.equal(cuts, 2);
});

test('a NAR that is cut short on the upstream, or gone, or no NAR, is a 404', async () => {
  const files = {
    cut: (file: Buffer) => file.subarray(0, -20),
    longer: (file: Buffer) => Buffer.concat([file, Buffer.alloc(8)]),
    page: () => Buffer.from('<html>Log in</html>'),
    gone: () => undefined,
  };
  for (const [name, change] of Object.entries(files)) {
    const path = await upstream.add(`short-${name}`, noise(5000, name), { compression: 'none' });
    const file = change(upstream.files.get(path.file) ?? Buffer.alloc(0));
    if (file === undefined) upstream.files.delete(path.file);
    else upstream.files.set(path.file, file);
    assert.equal((await fetch(await narUrl(path))).status, 404, name);
    assert.equal(await isHeld(path), false, name);
  }
});

test('an xz bomb ends at the size that was signed', async () => {
  const path = await upstream.add('bomb', noise(5000, 'bomb'), {
    compression: 'xz',
    pack: async () => await xz(Buffer.alloc(60_000_000)),
  });
  assert.ok((upstream.files.get(path.file)?.length ?? 0) < 100_000);
  const before = process.memoryUsage().rss;
  assert.equal((await fetch(await narUrl(path))).status, 404);
  assert.ok(process.memoryUsage().rss - before < 50e6);
});

test('a hanging upstream costs the first lookups their budget, later ones nothing, and is found again', async () => {
  await using slow = await openUpstreamServer();
  await using impatient = await openImpatient('impatient', [{ ...config, url: slow.url }]);
  const path = await slow.add('late', noise(1000, 'late'));
  slow.misbehave = () => true; // no answer at all
  const hashes = Array.from({ length: 8 }, (_, n) => `${n}`.padStart(32, '0'));
  const started = performance.now();
  const statuses = await Promise.all(
    hashes.map(async (hash) => await statusOf({ hash }, `${impatient.url}/main`)),
  );
  assert.deepEqual(new Set(statuses), new Set([404]));
  assert.ok(performance.now() - started < 10_000);
  const asked = slow.requests.length;
  for (let n = 0; n < 50; n++)
    assert.equal(await statusOf({ hash: `9${n}`.padStart(32, '0') }, `${impatient.url}/main`), 404);
  assert.equal(slow.requests.length, asked, 'nobody waits for an upstream that hangs');
  assert.equal(took(impatient, 'skipped'), 50);
  assert.match(formatMetrics(impatient.cache.sources.metrics), /slipway_upstream_up\{[^}]*\} 0/);
  slow.misbehave = undefined;
  const until = Date.now() + 30_000;
  while ((await statusOf(path, `${impatient.url}/main`)) !== 200) {
    assert.ok(Date.now() < until, 'the upstream is asked again after its pause');
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
});

test('down, 500, 401 and a hanging one beside it: the upstream that works answers, or there is a 404', async () => {
  await using bad = await openUpstreamServer();
  const path = await upstream.add('beside', noise(1000, 'beside'));
  const both = [{ ...config, url: bad.url }, config];
  const faults = {
    500: { status: 500 },
    401: { status: 401 },
    hangs: { status: 0 },
  };
  for (const [name, { status }] of Object.entries(faults)) {
    bad.misbehave = (_, response) => {
      if (status > 0) response.writeHead(status).end();
      return true;
    };
    await using impatient = await openImpatient(`beside-${name}`, both);
    assert.equal(await statusOf(path, `${impatient.url}/main`), 200, name);
    assert.equal(await statusOf({ hash: '0'.repeat(32) }, `${impatient.url}/main`), 404, name);
  }
  await bad.stop();
  await using impatient = await openImpatient('beside-down', both);
  assert.equal(await statusOf(path, `${impatient.url}/main`), 200, 'down');
});

test('redirects are followed a few times, without credentials to other hosts, and not in circles', async () => {
  const seen: (string | undefined)[] = [];
  const elsewhere = createServer(({ url, headers }, response) => {
    seen.push(headers.authorization);
    response.end(upstream.files.get(url ?? ''));
  });
  await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
  const target = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}`;
  process.env['SLIPWAY_TEST_TOKEN'] = 'secret-of-the-upstream';
  const path = await upstream.add('moved', noise(1000, 'moved'));
  const own: (string | undefined)[] = [];
  upstream.misbehave = ({ url, headers }, response) => {
    own.push(headers.authorization);
    if (url === path.file) response.writeHead(302, { location: `${target}${path.file}` }).end();
    return url === path.file;
  };
  await using following = await openImpatient('following', [{ ...config, token: 'env:SLIPWAY_TEST_TOKEN' }]);
  const body = await (await fetch(await narUrl(path, `${following.url}/main`))).arrayBuffer();
  assert.ok(Buffer.from(body).equals(path.nar));
  assert.deepEqual(new Set(own), new Set(['Bearer secret-of-the-upstream']));
  assert.deepEqual(seen, [undefined]);
  elsewhere.close();
  upstream.misbehave = ({ url }, response) => {
    response.writeHead(302, { location: url }).end();
    return true;
  };
  const before = upstream.requests.length;
  assert.equal(await statusOf({ hash: '1'.repeat(32) }, `${following.url}/main`), 404);
  assert.equal(upstream.requests.length - before, 4);
});

test('a NAR larger than the room for it goes out and is not kept', async () => {
  await using tiny = await openImpatient('tiny', [config]);
  await tiny.cache.caches.configure('main', { borrowedBytes: 1000 });
  const path = await upstream.add('too-large', noise(100_000, 'too-large'));
  const body = await (await fetch(await narUrl(path, `${tiny.url}/main`))).arrayBuffer();
  assert.ok(Buffer.from(body).equals(path.nar));
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(await isHeld(path, tiny), false);
});
