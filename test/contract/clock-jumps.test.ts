// A clock that is set, forwards and back: nothing is lost for it, and nothing stands still for years.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, mock, test } from 'node:test';
import { collectRegularly } from '../../src/cache/garbage/garbage-schedule.ts';
import { takeLease } from '../../src/cache/garbage/lease.ts';
import { parseScope } from '../../src/auth/scope.ts';
import { openTokenRegistry } from '../../src/auth/token-registry.ts';
import { isCode } from '../../src/util/errors.ts';
import { issueToken, openCacheServer } from './cache-server.ts';
import { noise, testPath, Uploader } from './cache-uploads.ts';
import { block, Scene } from './garbage-scene.ts';

const HOUR = 3_600_000;
const YEARS = 10 * 365 * 24 * HOUR;
const folder = mkdtempSync(join(tmpdir(), 'slipway-clock-'));
const server = await openCacheServer(join(folder, 'data'));
afterEach(() => mock.timers.reset());
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const realNow = Date.now;

/** From now on the machine's clock is this much off. */
function setClock(offMs: number): void {
  mock.timers.reset();
  if (offMs !== 0) mock.timers.enable({ apis: ['Date'], now: realNow() + offMs });
}

test('a collection under a clock that is years ahead takes nothing that is used once it is right again', async () => {
  await using scene = await Scene.open();
  await scene.push('lib', block(1));
  await scene.push('top', block(2), ['lib']);
  scene.now += YEARS;
  await scene.collect();
  scene.now -= YEARS - 10;
  await scene.collect();
  assert.deepEqual(await scene.names(), ['lib', 'top']);
  for (let round = 0; round < 3; round++) {
    scene.now += 60;
    assert.ok(await scene.use('top'));
    await scene.collect();
    await scene.assertSound();
  }
  assert.deepEqual(await scene.names(), ['lib', 'top']);
});

test('a collection under a clock that is years behind takes nothing, and the next goes on', async () => {
  await using scene = await Scene.open();
  await scene.push('old', block(1));
  const before = scene.now;
  scene.now = 1;
  await scene.collect();
  assert.deepEqual(await scene.names(), ['old']);
  scene.now = before;
  for (let round = 0; round < 3; round++) {
    scene.now += 150;
    await scene.collect();
  }
  assert.deepEqual(await scene.names(), []);
});

test('a lease that somebody took while the clock was wrong is not his for years', async () => {
  setClock(YEARS);
  assert.ok(await takeLease(server.database, 'wrong'));
  setClock(0);
  const taken = await takeLease(server.database, 'wrong');
  assert.ok(taken);
  assert.equal(await takeLease(server.database, 'wrong'), undefined);
  setClock(-YEARS);
  const stolen = await takeLease(server.database, 'wrong');
  assert.ok(stolen);
  setClock(0);
  await stolen[Symbol.asyncDispose]();
});

test('a holder renews by a clock that is not set, and hears of it when another has taken over', async () => {
  const held = await takeLease(server.database, 'held', 40);
  assert.ok(held);
  setClock(-HOUR / 2);
  await new Promise((resolve) => setTimeout(resolve, 50));
  await held.renew();
  setClock(YEARS);
  const other = await takeLease(server.database, 'held');
  assert.ok(other);
  await new Promise((resolve) => setTimeout(resolve, 50));
  await assert.rejects(held.renew(), (error) => isCode(error, 'conflict'));
  await other[Symbol.asyncDispose]();
});

test('garbage that was last collected in the future is collected now', async () => {
  setClock(YEARS);
  const at = Date.now();
  setClock(0);
  await server.database.write(
    async (transaction) =>
      await transaction
        .insertInto('garbage_run')
        .values({ started_at: at, ended_at: at, report: '{}' })
        .execute(),
  );
  const stop = new AbortController();
  let collected = 0;
  const collect = async (): Promise<void> => {
    collected++;
    stop.abort();
    await Promise.resolve();
  };
  const schedule = { everyMs: 30, collect, onError: (error: unknown) => assert.ifError(error) };
  await Promise.race([
    collectRegularly(server.database, schedule, stop.signal),
    new Promise((resolve) => setTimeout(resolve, 5_000)),
  ]);
  stop.abort();
  assert.equal(collected, 1);
});

test('a token ends by the clock, and is good again when the clock was wrong', async () => {
  let now = Date.now();
  const tokens = openTokenRegistry(server.database, () => now);
  const scopes = [parseScope('write:main')];
  const { token } = await tokens.create({ name: 'short', scopes, expiresAt: now + HOUR });
  const isGood = async (): Promise<boolean> => (await tokens.findCaller(`Bearer ${token}`)) !== undefined;
  for (const [offMs, good] of [
    [0, true],
    [2 * HOUR, false],
    [-YEARS, true],
    [YEARS, false],
    [0, true],
  ] as const) {
    now = realNow() + offMs;
    assert.equal(await isGood(), good, String(offMs));
  }
  await tokens[Symbol.asyncDispose]();
});

test('an upload over a clock that is set back and forth is published whole', async () => {
  const writer = new Uploader(`${server.url}/main`, await issueToken(server, 'write:main'));
  for (const [first, second] of [
    [YEARS, 0],
    [-YEARS, 0],
    [0, YEARS],
    [0, -YEARS],
  ] as const) {
    const path = await testPath(`jump-${first}-${second}`, noise(100_000, `jump ${first} ${second}`));
    setClock(first);
    assert.equal((await writer.put(path.url, path.file)).status, 200);
    setClock(second);
    assert.equal((await writer.push(path)).status, 200);
    const served = await writer.get(path.url);
    assert.ok(Buffer.from(await served.arrayBuffer()).length > 0);
  }
});
