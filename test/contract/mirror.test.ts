// Mirrors between two real servers: complete, incremental, in the order of references, past what is broken, after kill -9.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { mirrorCache, type MirrorOptions } from '../../src/client/mirror-cache.ts';
import { serverConfig } from '../../src/api/server-config.ts';
import { openControlPlane } from '../../src/cli/control-plane.ts';
import { copyBetweenStores } from '../../src/effects/copy-between-stores.ts';
import { exec } from '../../src/effects/exec.ts';
import { parsePublicKey, parseSecretKey, publicKeyOf } from '../../src/nix/signature.ts';
import { parseNarInfo } from '../../src/nix/narinfo.ts';
import { isCode } from '../../src/util/errors.ts';
import { temporaryFolder } from '../e2e/cache-scene.ts';
import { issueToken, openCacheServer, type CacheServer } from './cache-server.ts';
import { noise, testPath, Uploader, type TestPath } from './cache-uploads.ts';
import { openUpstreamServer } from './upstream-server.ts';

const folder = temporaryFolder('mirror');
const source = await openCacheServer(join(folder.path, 'source'));
const uploader = new Uploader(`${source.url}/main`, await issueToken(source, 'write:main'));
const readToken = await issueToken(source, 'read:main');
const from = { url: `${source.url}/main`, token: readToken };
after(async () => {
  await source[Symbol.asyncDispose]();
  await folder.remove();
});

/** Chains of paths, each needing the one before; their hashes are in no order. */
const chain: TestPath[] = [];
for (let n = 0; n < 25; n++) {
  const path = await testPath(`link-${n}`, noise(20_000 + n, `link ${n}`));
  const before = chain.at(-1)?.storePath.slice('/nix/store/'.length) ?? '';
  assert.equal((await uploader.push(path, { References: before })).status, 200);
  chain.push(path);
}

interface Destination extends AsyncDisposable {
  readonly server: CacheServer;
  readonly options: Pick<MirrorOptions, 'source' | 'destination' | 'jobs'>;
  held(): Promise<string[]>;
}

async function openDestination(name: string): Promise<Destination> {
  const server = await openCacheServer(join(folder.path, name));
  const token = await issueToken(server, 'write:main');
  return {
    server,
    options: { source: from, destination: { url: `${server.url}/main`, token }, jobs: 4 },
    held: async () =>
      (await server.database.read.selectFrom('store_path').select('hash').execute()).map(({ hash }) => hash),
    [Symbol.asyncDispose]: async () => await server[Symbol.asyncDispose](),
  };
}

test('a mirror has every path with the same bytes and the signatures of the source; again, nothing is copied', async () => {
  await using there = await openDestination('all');
  const first = await mirrorCache(there.options);
  assert.deepEqual([first.copied, first.failed], [chain.length, 0]);
  for (const { hash, nar } of chain) {
    const info = parseNarInfo(await (await fetch(`${there.server.url}/main/${hash}.narinfo`)).text());
    assert.equal(info.signatures.length, 2, 'of the source and its own');
    const plain = info.url.replace('.zst', '');
    assert.ok(
      Buffer.from(await (await fetch(`${there.server.url}/main/${plain}`)).arrayBuffer()).equals(nar),
    );
  }
  const before = there.server.requests.length;
  const second = await mirrorCache(there.options);
  assert.equal(second.copied, 0);
  const asked = there.server.requests.slice(before).map(({ method, url }) => `${method} ${url}`);
  assert.deepEqual(asked, ['POST /_api/v1/get-missing-paths']);
});

test('with paths, exactly their closures are mirrored', async () => {
  await using there = await openDestination('some');
  const result = await mirrorCache({ ...there.options, hashes: [chain[9]?.hash ?? ''] });
  assert.equal(result.copied, 10);
  assert.deepEqual(
    (await there.held()).toSorted(),
    chain
      .slice(0, 10)
      .map(({ hash }) => hash)
      .toSorted(),
  );
});

test('only what given keys have signed goes, and a conflict stops nothing else', async () => {
  await using there = await openDestination('keys');
  const [text] = await source.cache.keys.readText('main');
  const key = parsePublicKey(publicKeyOf(parseSecretKey(text ?? '')));
  const [, second] = chain;
  const token = there.options.destination.token ?? '';
  const other = await testPath('link-1', noise(100, 'somebody else'));
  const local = new Uploader(`${there.server.url}/main`, token);
  assert.equal(other.hash, second?.hash);
  const lone = await testPath('lone', noise(3000, 'lone'));
  assert.equal((await uploader.push(lone)).status, 200);
  assert.equal((await local.push(other)).status, 200);
  const result = await mirrorCache({ ...there.options, keys: [key] });
  assert.equal(result.failed, 0, 'the destination has a path of that name: it is not asked to change it');
  assert.ok((await there.held()).includes(lone.hash));
  await using strict = await openDestination('strangers');
  const [stranger] = await there.server.cache.keys.readText('main');
  const keys = [parsePublicKey(publicKeyOf(parseSecretKey(stranger ?? '')))];
  const refused = await mirrorCache({ ...strict.options, keys });
  assert.equal(refused.copied, 0);
  assert.ok(refused.failures.some(({ code }) => code === 'signature_invalid'));
});

test('any binary cache can be a source when paths are named; a NAR that is damaged there fails alone', async () => {
  await using plain = await openUpstreamServer();
  await using there = await openDestination('plain');
  const good = await plain.add('good', noise(5000, 'good'), { compression: 'zstd' });
  const bad = await plain.add('bad', noise(5000, 'bad'));
  plain.files.set(bad.file.replace('.zstd', '.zstd'), Buffer.from('no NAR'));
  const options = { ...there.options, source: { url: plain.url } };
  const result = await mirrorCache({ ...options, hashes: [good.hash, bad.hash] });
  assert.deepEqual([result.copied, result.failed], [1, 1]);
  await assert.rejects(mirrorCache(options), (error) => isCode(error, 'invalid'));
});

test('listing needs a token, also of a public cache; a token that may not write ends the mirror at once', async () => {
  await using there = await openDestination('tokens');
  await assert.rejects(mirrorCache({ ...there.options, source: { url: from.url } }), (error) =>
    isCode(error, 'unauthorized'),
  );
  const token = await issueToken(there.server, 'read:main');
  await assert.rejects(
    mirrorCache({ ...there.options, destination: { url: `${there.server.url}/main`, token } }),
    (error) => isCode(error, 'forbidden') || isCode(error, 'unauthorized'),
  );
});

test('a server mirrors a cache by itself, again and again', async () => {
  await using there = await openDestination('regular');
  const { url, token } = there.options.destination;
  process.env['SLIPWAY_TEST_MIRROR'] = token ?? '';
  const config = serverConfig.parse({
    data: join(folder.path, 'regular-source'),
    listen: ['127.0.0.1:0'],
    mirrors: [{ cache: 'main', to: url, token: 'env:SLIPWAY_TEST_MIRROR', every: 10 }],
  });
  const errors: unknown[] = [];
  await using plane = await openControlPlane(config, (error) => errors.push(error));
  const writer = new Uploader(
    `${plane.urls[0]}/main`,
    readFileSync(plane.keys.adminTokenFile, 'utf8').trim(),
  );
  const path = await testPath('regular', noise(5000, 'regular'));
  assert.equal((await writer.push(path)).status, 200);
  const until = Date.now() + 60_000;
  while (!(await there.held()).includes(path.hash)) {
    assert.ok(Date.now() < until, String(errors[0]));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.deepEqual(errors, []);
});

test('closures go into a store of files, with nix', async () => {
  process.env['XDG_CACHE_HOME'] = join(folder.path, 'nix-cache');
  const files = join(folder.path, 'files');
  await copyBetweenStores({ from, to: `file://${files}`, paths: [chain[3]?.storePath ?? ''] });
  assert.deepEqual(
    readdirSync(files)
      .filter((name) => name.endsWith('.narinfo'))
      .toSorted(),
    chain
      .slice(0, 4)
      .map(({ hash }) => `${hash}.narinfo`)
      .toSorted(),
  );
});

test('slipway cache mirror that is killed goes on where it was, and ends whole', async () => {
  for (let n = 0; n < 6; n++)
    assert.equal((await uploader.push(await testPath(`large-${n}`, randomBytes(1_500_000)))).status, 200);
  await using there = await openDestination('killed');
  const env = {
    ...process.env,
    MIRROR_FROM: readToken,
    MIRROR_TO: there.options.destination.token ?? '',
  };
  const program = join(import.meta.dirname, '../../src/cli/main.ts');
  const argv = [program, 'cache', 'mirror', from.url, there.options.destination.url, '--json'];
  argv.push('--from-token', 'env:MIRROR_FROM', '--to-token', 'env:MIRROR_TO', '--jobs', '2');
  const child = spawn(process.execPath, argv, { env, stdio: 'ignore' });
  const ended = once(child, 'exit');
  while ((await there.held()).length < 5) await new Promise((resolve) => setTimeout(resolve, 5));
  child.kill('SIGKILL');
  await ended;
  const atKill = (await there.held()).length;
  const again = await exec([process.execPath, ...argv], { env, timeoutMs: 60_000 });
  assert.equal(again.code, 0, again.stderr);
  const result = JSON.parse(again.stdout.toString()) as { ok: boolean; copied: number };
  const wanted = (await source.database.read.selectFrom('store_path').select('hash').execute()).length;
  assert.equal((await there.held()).length, wanted);
  assert.ok(result.ok && result.copied <= wanted - atKill, `${result.copied} of ${wanted}, ${atKill} before`);
});
