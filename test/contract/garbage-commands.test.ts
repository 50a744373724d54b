// The commands of garbage collection on a data directory, beside the server that uses it.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { exec, type ExecResult } from '../../src/effects/exec.ts';
import { issueToken, openCacheServer, type CacheServer } from './cache-server.ts';
import { noise, testPath, Uploader } from './cache-uploads.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-gc-cli-'));
after(() => rmSync(folder, { recursive: true, force: true }));

async function slipway(server: CacheServer, ...argv: string[]): Promise<ExecResult> {
  const main = join(import.meta.dirname, '../../src/cli/main.ts');
  return await exec([process.execPath, main, ...argv, '--data', server.data], { timeoutMs: 60_000 });
}

async function ok(run: Promise<ExecResult>): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await run;
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout.toString()) as Record<string, unknown>;
}

function storageHolds(server: CacheServer, bytes: Buffer): boolean {
  const packs = join(server.data, 'packs', 'blobs');
  return readdirSync(packs, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .some((entry) => readFileSync(join(entry.parentPath, entry.name)).includes(bytes));
}

/** Moves everything that was uploaded a year into the past. */
async function age(server: CacheServer): Promise<void> {
  const year = 365 * 86_400_000;
  await server.database.write(async (transaction) => {
    const at = Date.now() - year;
    await transaction.updateTable('store_path').set({ created_at: at, last_access_at: at }).execute();
    await transaction
      .updateTable('store_path')
      .set({ tombstoned_at: at })
      .where('tombstoned_at', 'is not', null)
      .execute();
    await transaction
      .updateTable('chunk')
      .set({ orphaned_at: at })
      .where('orphaned_at', 'is not', null)
      .execute();
    await transaction.updateTable('pack').set({ created_at: at }).execute();
    await transaction
      .updateTable('pack')
      .set({ retired_at: at })
      .where('retired_at', 'is not', null)
      .execute();
  });
}

test('slipway cache gc keeps what is pinned and gives back the rest, beside a running server', async () => {
  await using server = await openCacheServer(join(folder, 'gc'));
  const client = new Uploader(`${server.url}/main`, await issueToken(server, 'write:main'));
  const [kept, gone] = [
    await testPath('kept', noise(300_000, 'k')),
    await testPath('gone', noise(300_000, 'g')),
  ];
  for (const path of [kept, gone]) assert.equal((await client.push(path)).status, 200);
  await ok(slipway(server, 'pin', 'mine', kept.storePath, '--json'));
  await age(server);
  const dry = await ok(slipway(server, 'cache', 'gc', '--keep', '30d', '--dry-run', '--json'));
  assert.deepEqual(dry['paths'], { kept: 1, tombstoned: 1, revived: 0, waiting: 0, removed: 0 });
  for (let round = 0; round < 5; round++) {
    await ok(slipway(server, 'cache', 'gc', '--keep', '30d', '--json'));
    await age(server);
  }
  assert.ok(storageHolds(server, noise(64, 'k')));
  assert.ok(!storageHolds(server, noise(64, 'g')), 'the bytes are still there');
  assert.equal((await client.get(kept.url)).status, 200);
  assert.equal((await client.get(gone.url)).status, 404);
});

test('slipway cache delete takes a path and its bytes out at once, and says what proves it', async () => {
  await using server = await openCacheServer(join(folder, 'delete'));
  const client = new Uploader(`${server.url}/main`, await issueToken(server, 'write:main'));
  const shared = noise(400_000, 'shared');
  const leaked = await testPath('leaked', Buffer.concat([shared, noise(400_000, 'secret')]));
  const other = await testPath('other', Buffer.concat([shared, noise(400_000, 'fine')]));
  for (const path of [leaked, other]) assert.equal((await client.push(path)).status, 200);
  assert.equal((await client.get(`${leaked.hash}.narinfo`)).status, 200);
  const secret = noise(400_000, 'secret').subarray(390_000, 390_064);
  assert.ok(storageHolds(server, secret));
  const deletion = await ok(slipway(server, 'cache', 'delete', leaked.storePath, '--json'));
  assert.equal(deletion['proven'], true);
  assert.ok(Number(deletion['removedChunks']) > 0 && Number(deletion['sharedChunks']) > 0);
  assert.ok(!storageHolds(server, secret), 'the bytes are still there');
  assert.equal((await client.get(leaked.url)).status, 404);
  const nar = await client.get(other.url);
  assert.equal(nar.status, 200);
  await nar.arrayBuffer();
  assert.equal((await client.push(leaked)).status, 200);
});

test('slipway cache delete refuses a path that others reference, and one that is not there', async () => {
  await using server = await openCacheServer(join(folder, 'refuse'));
  const client = new Uploader(`${server.url}/main`, await issueToken(server, 'write:main'));
  const lib = await testPath('lib', noise(1000, 'lib'));
  const top = await testPath('top', noise(1000, 'top'));
  assert.equal((await client.push(lib)).status, 200);
  assert.equal(
    (await client.push(top, { References: lib.storePath.slice('/nix/store/'.length) })).status,
    200,
  );
  const refused = await slipway(server, 'cache', 'delete', lib.storePath);
  assert.equal(refused.code, 6);
  assert.match(refused.stderr, /is referenced by .*-top/);
  const absent = await slipway(
    server,
    'cache',
    'delete',
    (await testPath('absent', noise(9, 'a'))).storePath,
  );
  assert.equal(absent.code, 3);
});
