// Small packs are put together while uploads, readers and other servers go on.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ContentWriter, type StagedContent } from '../../src/cache/ingest/content-writer.ts';
import { mergePacks } from '../../src/cache/garbage/merge-packs.ts';
import { PackPool } from '../../src/cache/ingest/pack-pool.ts';
import type { PackSink } from '../../src/cache/ingest/pack-writer.ts';
import { readLivePack, rewritePacks } from '../../src/cache/garbage/rewrite-packs.ts';
import { sweep } from '../../src/cache/garbage/sweep.ts';
import { block, Scene } from './garbage-scene.ts';

const HOUR = 3600_000;
const merge = async (scene: Scene, skip = new Set<number>()) =>
  await mergePacks(scene, { now: scene.now, youngMs: 10, graceMs: 100, skip });

async function pushMany(scene: Scene, count: number): Promise<void> {
  for (let number = 0; number < count; number++)
    await scene.push(`p${number}`, block(number).subarray(0, 900 + number));
}

test('mergePacks() makes one pack of many, and removes the small ones once nobody reads them', async () => {
  await using scene = await Scene.open();
  await pushMany(scene, 300);
  assert.equal(scene.blobs.blobs.size, 300);
  assert.deepEqual(await merge(scene), { merged: 0, removed: 0 }, 'too young');
  scene.now += 50;
  assert.deepEqual(await merge(scene), { merged: 300, removed: 0 });
  await scene.assertSound();
  scene.now += 150;
  assert.deepEqual(await merge(scene), { merged: 0, removed: 300 });
  assert.equal(scene.blobs.blobs.size, 1);
  await scene.assertSound();
});

test('mergePacks() that is cut off anywhere loses nothing and is done by the next one', async () => {
  for (let step = 0; step < 8; step++) {
    await using scene = await Scene.open();
    await pushMany(scene, 9);
    scene.now += 50;
    scene.crash.left = step;
    await merge(scene).catch(() => undefined);
    scene.crash.left = Infinity;
    await scene.assertSound();
    await scene.database.write(async (transaction) => await transaction.deleteFrom('lease').execute());
    await sweep(scene.database, scene.blobs, { now: scene.now });
    scene.now += 200;
    await merge(scene);
    scene.now += 200;
    await merge(scene);
    await scene.assertSound();
    assert.ok(scene.blobs.blobs.size <= 2, `${scene.blobs.blobs.size} packs after a cut at ${step}`);
  }
});

test('mergePacks() leaves packs alone that it cannot read', async () => {
  await using scene = await Scene.open();
  await pushMany(scene, 9);
  scene.now += 50;
  const [broken = ''] = scene.blobs.blobs.keys();
  scene.blobs.blobs.set(broken, Buffer.alloc(500));
  const skip = new Set<number>();
  await merge(scene, skip);
  assert.equal(skip.size, 1);
  assert.ok(scene.blobs.blobs.has(broken));
});

/** Two uploads that end at one moment, however fast each one is compressed. */
function endingTogether(...sinks: readonly [PackSink, PackSink]): [PackSink, PackSink] {
  const { promise, resolve } = Promise.withResolvers<void>();
  let ending = 0;
  const held = (sink: PackSink): PackSink => ({
    append: async (frame, contents) => await sink.append(frame, contents),
    finish: async () => {
      if (++ending === sinks.length) resolve();
      await promise;
      return await sink.finish();
    },
    [Symbol.asyncDispose]: async () => await sink[Symbol.asyncDispose](),
  });
  return [held(sinks[0]), held(sinks[1])];
}

/** An upload that shares its pack with one that has ended: its frames are durable and nobody names them yet. */
async function shareAPack(scene: Scene): Promise<StagedContent> {
  await using pool = new PackPool(scene.blobs);
  const [first, second] = endingTogether(pool.open(), pool.open());
  await using long = new ContentWriter(scene.database, scene.blobs, first);
  await using short = new ContentWriter(scene.database, scene.blobs, second);
  await long.write(block(1));
  await short.write(block(2));
  const [staged, ended] = await Promise.all([long.finish(), short.finish()]);
  assert.equal(staged.packs[0]?.blobKey, ended.packs[0]?.blobKey);
  await scene.publish('short', block(2), { staged: ended, references: [] });
  return staged;
}

test('an upload whose pack was merged meanwhile takes it back', async () => {
  await using scene = await Scene.open();
  const staged = await shareAPack(scene);
  await pushMany(scene, 8);
  scene.now += 50;
  assert.equal((await merge(scene))?.merged, 9);
  assert.ok(await scene.publish('long', block(1), { staged, references: [] }));
  scene.now += 200;
  await merge(scene);
  await scene.assertSound();
  assert.deepEqual((await scene.names()).slice(0, 2), ['long', 'p0']);
});

test('an upload whose pack is gone is refused, also long after', async () => {
  await using scene = await Scene.open();
  const staged = await shareAPack(scene);
  await pushMany(scene, 8);
  scene.now += 50;
  await merge(scene);
  scene.now += 40 * HOUR;
  await merge(scene);
  await assert.rejects(scene.publish('long', block(1), { staged, references: [] }), { code: 'unavailable' });
  scene.now += 7 * HOUR;
  await merge(scene);
  await assert.rejects(scene.publish('long', block(1), { staged, references: [] }), { code: 'unavailable' });
  await scene.assertSound();
});

test('a server that starts beside a collection never takes the pack that the collection is about to name', async () => {
  for (let moment = 0; moment < 4; moment++) {
    await using scene = await Scene.open();
    await pushMany(scene, 3);
    const rows = await scene.database.read.selectFrom('pack').selectAll().execute();
    const live = await Promise.all(rows.map(async (row) => await readLivePack(scene, row)));
    scene.meanwhile = {
      left: moment,
      work: async () => void (await sweep(scene.database, scene.blobs, { now: scene.now })),
    };
    await rewritePacks(
      scene,
      live.filter((one) => one !== undefined),
      { now: scene.now },
    ).catch(() => undefined);
    scene.meanwhile = undefined;
    scene.now += 500;
    await merge(scene);
    await scene.assertSound();
  }
});
