import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openDiskBlobStore } from '../../storage/disk-blob-store.ts';
import { openSqliteDatabase } from '../../storage/sqlite-database.ts';
import { sleep } from '../../util/deadline.ts';
import { collectGarbage, DEFAULT_GARBAGE_SETTINGS } from './collect-garbage.ts';
import { collectRegularly, isDue } from './garbage-schedule.ts';

test('collectRegularly() collects until it is told to stop, and not again before its time', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-schedule-'));
  try {
    await using database = await openSqliteDatabase(join(folder, 'slipway.db'));
    await using blobs = await openDiskBlobStore(folder);
    const runs = async (): Promise<number> =>
      (await database.read.selectFrom('garbage_run').selectAll().execute()).length;
    const errors: unknown[] = [];
    const stop = new AbortController();
    const often = {
      everyMs: 20,
      collect: async () => await collectGarbage({ database, blobs }, { settings: DEFAULT_GARBAGE_SETTINGS }),
      onError: (error: unknown) => errors.push(error),
    };
    const collecting = collectRegularly(database, often, stop.signal);
    const alive = setInterval(() => undefined, 1000);
    while ((await runs()) < 2) await sleep(10);
    stop.abort();
    await collecting;
    clearInterval(alive);
    assert.deepEqual(errors, []);
    const done = await runs();
    const later = new AbortController();
    const seldom = collectRegularly(database, { ...often, everyMs: 3_600_000 }, later.signal);
    await sleep(50);
    later.abort();
    await seldom;
    assert.equal(await runs(), done);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('a collection is due early when much waits to be settled, and not at once again', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-schedule-'));
  try {
    await using database = await openSqliteDatabase(join(folder, 'slipway.db'));
    const now = Date.now();
    const hour = 3_600_000;
    const collectedAt = async (ended_at: number): Promise<void> =>
      await database.write(async (transaction) => {
        await transaction.deleteFrom('garbage_run').execute();
        await transaction
          .insertInto('garbage_run')
          .values({ started_at: 0, ended_at, report: '{}' })
          .execute();
      });
    await collectedAt(now - hour);
    assert.equal(await isDue(database, 24 * hour), false);
    const pack = { blob_key: 'pack/large', size: 300 * 1024 * 1024, created_at: now - 2 * hour };
    await database.write(async (transaction) => await transaction.insertInto('pack').values(pack).execute());
    assert.equal(await isDue(database, 24 * hour), true);
    await collectedAt(now - hour / 4);
    assert.equal(await isDue(database, 24 * hour), false);
    await collectedAt(now - hour);
    await database.write(
      async (transaction) => await transaction.updateTable('pack').set({ unsettled_bytes: 0 }).execute(),
    );
    assert.equal(await isDue(database, 24 * hour), false);
  } finally {
    await rm(folder, { recursive: true });
  }
});
