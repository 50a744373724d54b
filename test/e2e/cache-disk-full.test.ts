// A disk that fills up: uploads are refused in words that a person understands, nothing is half there, what was there is
// served on, and once there is room the same push succeeds.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { execText } from '../../src/effects/exec.ts';
import { fsck } from '../../src/cache/recovery/fsck.ts';
import { issueToken, openCacheServer } from '../contract/cache-server.ts';
import { openTestStorage } from '../contract/cache-storage.ts';
import { narInfo, nix32, noise, testPath, Uploader } from '../contract/cache-uploads.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-full-'));
const data = join(folder, 'data');
mkdirSync(data);
await execText(['mount', '-t', 'tmpfs', '-o', 'size=8m,mode=700', 'tmpfs', data]);
after(async () => {
  await execText(['umount', data]);
  rmSync(folder, { recursive: true, force: true });
});

test('a full disk refuses uploads readably, keeps what it has, and goes on once there is room', async () => {
  const small = await testPath('small', noise(300_000, 'small'));
  const large = await testPath('large', randomBytes(12_000_000));
  const tiny = await testPath('tiny', noise(200_000, 'tiny'));
  await using server = await openCacheServer(data);
  const client = new Uploader(`${server.url}/main`, await issueToken(server, 'write:main'));
  assert.equal((await client.push(small)).status, 200);

  const refused = await client.put(large.url, large.file);
  assert.ok(refused.status >= 400 && refused.status < 500 && refused.status !== 429, String(refused.status));
  assert.match(refused.text, /disk .*is full/);
  assert.equal((await client.put(`${large.hash}.narinfo`, narInfo(large))).status, 400);
  assert.equal((await client.get(`${large.hash}.narinfo`)).status, 404);
  assert.deepEqual(readdirSync(join(data, 'packs', 'tmp')), []);
  const nar = Buffer.from(await (await client.get(`nar/${nix32(small.nar)}.nar`)).arrayBuffer());
  assert.ok(nar.equals(small.nar), 'what was there is served on');
  assert.equal((await client.push(tiny)).status, 200, 'what fits is taken');

  assert.deepEqual(readdirSync(join(data, 'packs', 'tmp')), [], 'no half blob takes the room');

  // The last byte is taken, too: the database cannot grow either.
  await execText(['sh', '-c', `dd if=/dev/zero of=${data}/ballast bs=4k status=none || true`]);
  const other = await testPath('other', noise(150_000, 'other'));
  const none = await client.push(other);
  assert.ok(none.status >= 400 && none.status < 500, `${none.status} ${none.text}`);
  assert.match(none.text, /full/);
  assert.equal((await client.get(`${small.hash}.narinfo`)).status, 200);
  assert.deepEqual(readdirSync(join(data, 'packs', 'tmp')), []);
  server.failures.length = 0; // they were to be told

  rmSync(join(data, 'ballast'));
  await execText(['mount', '-o', 'remount,size=60m', data]);
  for (const path of [other, large]) assert.equal((await client.push(path)).status, 200);
  const whole = Buffer.from(await (await client.get(`nar/${nix32(large.nar)}.nar`)).arrayBuffer());
  assert.ok(whole.equals(large.nar));
});

test('after all that fsck finds nothing wrong', async () => {
  await using storage = await openTestStorage(data);
  const report = await fsck(storage, { full: true, repair: false });
  assert.ok(report.clean, JSON.stringify(report));
});
