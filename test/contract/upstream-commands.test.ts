// The commands that give a cache upstreams, beside the server that uses it; and what it keeps of them, within a limit.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { collectGarbage, DEFAULT_GARBAGE_SETTINGS } from '../../src/cache/garbage/collect-garbage.ts';
import { isOverPulledLimit } from '../../src/cache/sources/pulled-figures.ts';
import type { StorageFigures } from '../../src/cache/storage-figures.ts';
import { exec, type ExecResult } from '../../src/effects/exec.ts';
import { parseNarInfo } from '../../src/nix/narinfo.ts';
import { openDiskBlobStore } from '../../src/storage/disk-blob-store.ts';
import { temporaryFolder } from '../e2e/cache-scene.ts';
import { openCacheServer } from './cache-server.ts';
import { noise } from './cache-uploads.ts';
import { openUpstreamServer, type UpstreamPath } from './upstream-server.ts';

const folder = temporaryFolder('upstream-commands');
const upstream = await openUpstreamServer();
const server = await openCacheServer(join(folder.path, 'data'));
after(async () => {
  await server[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
  await folder.remove();
});
const main = `${server.url}/main`;
const HOUR = 3_600_000;

async function slipway(...argv: string[]): Promise<ExecResult> {
  const program = join(import.meta.dirname, '../../src/cli/main.ts');
  return await exec([process.execPath, program, 'cache', ...argv, '--data', server.data, '--json'], {
    timeoutMs: 60_000,
  });
}

async function told(...argv: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await slipway(...argv);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout.toString()) as Record<string, unknown>;
}

async function pull(path: UpstreamPath): Promise<void> {
  const info = parseNarInfo(await (await fetch(`${main}/${path.hash}.narinfo`)).text());
  assert.equal((await fetch(`${main}/${info.url}`)).status, 200);
  while ((await heldPaths()).every((hash) => hash !== path.hash))
    await new Promise((resolve) => setTimeout(resolve, 10));
}

/** A running server sees what commands change within two seconds. */
async function becomes({ hash }: UpstreamPath, status: number): Promise<void> {
  const until = Date.now() + 20_000;
  while ((await fetch(`${main}/${hash}.narinfo`)).status !== status) {
    assert.ok(Date.now() < until);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function heldPaths(): Promise<string[]> {
  return (await server.database.read.selectFrom('store_path').select('hash').execute()).map(
    ({ hash }) => hash,
  );
}

test('cache upstream add gives a running server an upstream, with a limit; without a key it is refused', async () => {
  const refused = await slipway('upstream', 'add', 'main', upstream.url);
  assert.equal(refused.code, 2);
  assert.match(refused.stdout.toString(), /needs a key/);
  const path = await upstream.add('by-command', noise(1000, 'by-command'));
  const added = await told('upstream', 'add', 'main', `${upstream.url}/`, '--key', upstream.publicKey);
  assert.equal(added['pulledLimit'], 100e9);
  await becomes(path, 200);
  await pull(path);
  assert.equal((await told('upstream', 'list', 'main'))['pulledPaths'], 1);
  const who = await told('who', 'main', path.hash);
  assert.match(JSON.stringify(who), /"way":"pull"/);
  const known = await told('upstream', 'add', 'main', 'https://cache.nixos.org');
  assert.match(JSON.stringify(known), /cache\.nixos\.org-1:/);
  await told('upstream', 'remove', 'main', 'https://cache.nixos.org');
});

test('cache stats tells what was pulled, and how often the cache had what it was asked for', async () => {
  const path = await upstream.add('counted', noise(5_000, 'counted'));
  await pull(path);
  await server.cache.flushUses();
  const { caches } = (await told('stats')) as unknown as Pick<StorageFigures, 'caches'>;
  const figures = caches.find(({ name }) => name === 'main');
  assert.ok(figures && figures.pulledPaths >= 1 && figures.pulledBytes > 5_000);
  assert.ok(figures.lookups && figures.lookups.hits >= 1);
});

test('garbage collection keeps what was used last, within the limit', async () => {
  server.cache.caches.forget('main');
  const paths: UpstreamPath[] = [];
  for (const name of ['one', 'two', 'three']) paths.push(await upstream.add(name, noise(200_000, name)));
  for (const path of paths) await pull(path);
  await server.database.write(async (transaction) => {
    for (const [age, { hash }] of paths.entries()) {
      const at = Date.now() - (10 + age) * HOUR; // the first one was used last
      await transaction
        .updateTable('store_path')
        .set({ created_at: at, last_access_at: at })
        .where('hash', '=', hash)
        .execute();
    }
  });
  await told('configure', 'main', '--pulled-limit', '500K');
  assert.equal(await isOverPulledLimit(server.database, 0), true);
  await using blobs = await openDiskBlobStore(join(server.data, 'packs'));
  const collect = async (now: number) =>
    await collectGarbage({ database: server.database, blobs }, { settings: DEFAULT_GARBAGE_SETTINGS, now });
  assert.equal((await collect(Date.now())).paths.tombstoned, 1);
  assert.equal(await isOverPulledLimit(server.database, Date.now() - HOUR), false);
  assert.equal(
    await isOverPulledLimit(server.database, Date.now() + HOUR),
    true,
    'what was let go can be removed',
  );
  assert.equal((await collect(Date.now() + 2 * HOUR)).paths.removed, 1);
  const held = await heldPaths();
  assert.deepEqual(
    paths.map(({ hash }) => held.includes(hash)),
    [true, true, false],
  );
});

test('cache upstream remove --quarantine holds back what came from it', async () => {
  const path = await upstream.add('poisoned', noise(1000, 'poisoned'));
  await pull(path);
  const removed = await told('upstream', 'remove', 'main', upstream.url, '--quarantine');
  assert.deepEqual(removed['upstreams'], []);
  assert.ok((removed['held'] as string[]).some((line) => line.endsWith(path.storePath)));
  await becomes(path, 404);
});

test('cache info shows every setting', async () => {
  await told(
    'configure',
    'main',
    '--local-store',
    '/nowhere',
    '--local-store-signatures',
    'keep',
    '--quota',
    '5G',
    '--retention',
    '30d',
  );
  const info = await told('info', 'main');
  assert.deepEqual(info['localStore'], { root: '/nowhere', sign: false });
  assert.equal(info['quotaBytes'], 5e9);
  assert.equal(info['retentionMs'], 30 * 86_400_000);
  assert.equal((await slipway('configure', 'main', '--local-store', 'none')).code, 0);
});
