// Garbage collection over a real database: what goes, what stays, and what happens in its middle.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collectGarbage, type GarbageReport } from '../../src/cache/garbage/collect-garbage.ts';
import { commitContent } from '../../src/cache/ingest/commit-content.ts';
import { ContentWriter } from '../../src/cache/ingest/content-writer.ts';
import { isCode } from '../../src/util/errors.ts';
import { block, Scene, SETTINGS } from './garbage-scene.ts';

test('collectGarbage() gives the bytes back once nothing keeps a path, and never those that are shared', async () => {
  await using scene = await Scene.open();
  await scene.push('kept', block(1));
  await scene.push('gone', Buffer.concat([block(2), block(3)]));
  await scene.pin('kept');
  const before = [...scene.blobs.blobs.values()].reduce((sum, bytes) => sum + bytes.length, 0);
  const reports: GarbageReport[] = [];
  for (let round = 0; round < 6; round++) {
    scene.now += 150;
    reports.push(await scene.collect());
    await scene.assertSound();
  }
  assert.deepEqual(await scene.names(), ['kept']);
  const left = [...scene.blobs.blobs.values()].reduce((sum, bytes) => sum + bytes.length, 0);
  assert.ok(left < before / 2, `${left} of ${before} bytes are left`);
  assert.equal(reports[0]?.paths.tombstoned, 1);
  assert.equal(reports[1]?.paths.removed, 1);
  assert.ok(reports.some((report) => (report.packs?.removed ?? 0) > 0));
});

test('collectGarbage() with dryRun changes nothing', async () => {
  await using scene = await Scene.open();
  await scene.push('old', block(1));
  scene.now += 1000;
  const report = await collectGarbage(scene, { settings: SETTINGS, now: scene.now, dryRun: true });
  assert.equal(report.paths.tombstoned, 1);
  const row = await scene.database.read.selectFrom('store_path').select('tombstoned_at').executeTakeFirst();
  assert.equal(row?.tombstoned_at, null);
  assert.equal((await scene.database.read.selectFrom('garbage_run').selectAll().execute()).length, 0);
});

test('collectGarbage() is done by one process at a time', async () => {
  await using scene = await Scene.open();
  const results = await Promise.allSettled([scene.collect(), scene.collect()]);
  assert.deepEqual(results.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected']);
});

test('being asked for saves a tombstoned path with all that it needs', async () => {
  await using scene = await Scene.open();
  await scene.push('lib', block(1));
  await scene.push('top', block(2), ['lib']);
  scene.now += 150;
  await scene.collect();
  assert.ok(await scene.use('top'));
  scene.now += 50;
  await scene.collect();
  assert.deepEqual(await scene.names(), ['lib', 'top']);
});

test('being asked for saves the closure also in the moment before it is removed', async () => {
  for (const change of [0, 1, 2]) {
    await using scene = await Scene.open();
    await scene.push('lib', block(1));
    await scene.push('top', block(2), ['lib']);
    scene.now += 150;
    await scene.collect();
    scene.now += 60;
    let saved = false;
    await scene.collectWhile(change, async () => {
      saved = await scene.use('top');
    });
    assert.deepEqual(await scene.names(), saved ? ['lib', 'top'] : []);
    await scene.assertSound();
  }
});

test('an upload that ends in the middle of a collection keeps the chunks that it counted on', async () => {
  for (let change = 0; change < 8; change++) {
    await using scene = await Scene.open();
    await scene.push('old', block(1));
    scene.now += 150;
    await scene.collect();
    scene.now += 60;
    const staged = await scene.stage(block(1));
    await scene.collect(); // the path goes, its chunk is marked
    scene.now += 60;
    let published = false;
    await scene.collectWhile(change, async () => {
      published = await scene
        .publish('new', block(1), { staged, references: [] })
        .catch((error: unknown) => isCode(error, 'unavailable') && false);
    });
    scene.now += 60;
    await scene.collect();
    await scene.assertSound();
    assert.deepEqual(await scene.names(), published ? ['new'] : []);
  }
});

test('an upload that counted on a chunk which was collected meanwhile is refused, not broken', async () => {
  await using scene = await Scene.open();
  await scene.push('first', block(1));
  await using slow = new ContentWriter(scene.database, scene.blobs);
  await slow.write(block(1));
  const staged = { ...(await slow.finish()), flatHash: undefined };
  for (let round = 0; round < 6; round++) {
    scene.now += 150;
    await scene.collect();
  }
  assert.deepEqual(await scene.names(), []);
  await assert.rejects(
    scene.database.write(async (transaction) => await commitContent(transaction, staged, scene.now)),
    { code: 'unavailable' },
  );
});

test('collectGarbage() puts small packs together', async () => {
  await using scene = await Scene.open();
  for (let number = 0; number < 12; number++) await scene.push(`p${number}`, block(number));
  for (let number = 0; number < 12; number++) await scene.pin(`p${number}`);
  assert.equal(scene.blobs.blobs.size, 12);
  for (let round = 0; round < 2; round++) {
    scene.now += 50;
    await scene.collect();
    await scene.assertSound();
  }
  assert.equal(scene.blobs.blobs.size, 1);
});
