// This machine's store, served as nix-serve does, to the real nix: substituted, resumed, signed, and never when changed.
import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseNarInfo } from '../../src/nix/narinfo.ts';
import {
  buildPaths,
  makeNixClient,
  ok,
  openCacheServer,
  publicKeyOfCache,
  temporaryFolder,
} from './cache-scene.ts';

const folder = temporaryFolder('local-store');
const server = await openCacheServer(join(folder.path, 'data'));
after(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

const owner = makeNixClient(folder.path, 'owner');
const root = join(owner.home, 'root');
const paths = await buildPaths(owner, 'local');
await server.cache.caches.configure('main', { localStore: { root, sign: true } });
const main = `${server.url}/main`;
const key = publicKeyOfCache(server, 'main');
const hashOf = (path: string): string => path.slice('/nix/store/'.length).slice(0, 32);

async function infoOf(path: string) {
  const response = await fetch(`${main}/${hashOf(path)}.narinfo`);
  return response.status === 200 ? parseNarInfo(await response.text()) : undefined;
}

test('nix substitutes what this machine has built, with signature checks on; nothing is copied into the cache', async () => {
  const reader = makeNixClient(folder.path, 'reader');
  const argv = ['nix', 'build', '--no-link', '--store', reader.store, '--substituters', main];
  await ok(reader.run(...argv, '--trusted-public-keys', key, paths.top));
  for (const file of ['lines', 'bin/run', 'link']) {
    const original = readFileSync(join(root, paths.dependency, file));
    assert.ok(readFileSync(join(reader.home, 'root', paths.dependency, file)).equals(original));
  }
  const held = await server.database.read.selectFrom('store_path').select('hash').execute();
  assert.deepEqual(held, []);
});

test('narinfo and NAR have the forms of nix-serve, and any part of a NAR can be asked for', async () => {
  const info = await infoOf(paths.dependency);
  assert.match(info?.url ?? '', new RegExp(`^nar/${hashOf(paths.dependency)}-[0-9a-z]{52}\\.nar$`));
  assert.equal(info?.compression, 'none');
  assert.deepEqual((await infoOf(paths.top))?.references, [paths.dependency]);
  const whole = Buffer.from(await (await fetch(`${main}/${info?.url}`)).arrayBuffer());
  assert.equal(whole.length, info?.narSize);
  for (const start of [0, 1, 5000, whole.length - 1]) {
    const part = await fetch(`${main}/${info?.url}`, { headers: { range: `bytes=${start}-` } });
    assert.equal(part.status, 206);
    assert.ok(Buffer.from(await part.arrayBuffer()).equals(whole.subarray(start)), String(start));
  }
});

test('with keep, only the signatures that the store has are served', async () => {
  const keyFile = join(folder.path, 'owner.key');
  await ok(owner.run('sh', '-c', `nix key generate-secret --key-name owner-1 > ${keyFile}`));
  await ok(owner.run('nix', 'store', 'sign', '--store', owner.store, '-k', keyFile, paths.top));
  const names = async (): Promise<string[] | undefined> =>
    (await infoOf(paths.top))?.signatures.map((one) => one.split(':')[0] ?? '');
  await server.cache.caches.configure('main', { localStore: { root, sign: false } });
  assert.deepEqual(await names(), ['owner-1']);
  await server.cache.caches.configure('main', { localStore: { root: `${root}/`, sign: true } });
  assert.deepEqual(await names(), ['owner-1', 'main-1']);
});

test('a path that appears later is found; one that nix removes is gone', async () => {
  const later = await buildPaths(owner, 'later');
  assert.notEqual(await infoOf(later.top), undefined);
  const url = (await infoOf(later.top))?.url;
  await ok(owner.run('nix-store', '--store', owner.store, '--delete', '--ignore-liveness', later.top));
  assert.equal((await fetch(`${main}/${url}`)).status, 404);
});

test('a file that was changed after it was built is not served, and that is reported', async () => {
  const info = await infoOf(paths.dependency);
  const file = join(root, paths.dependency, 'bin/run');
  chmodSync(file, 0o755);
  writeFileSync(file, 'RUN\n');
  assert.equal((await fetch(`${main}/${info?.url}`)).status, 404);
  assert.ok(server.problems.some((problem) => String(problem).includes('changed on disk')));
});

test('a store that is not there is reported, and its paths are absent', async () => {
  await server.cache.caches.configure('main', { localStore: { root: '/nowhere', sign: true } });
  assert.equal(await infoOf(paths.top), undefined);
  assert.ok(server.problems.some((problem) => String(problem).includes('/nowhere')));
});
