// Packs come to rest: what was stored quickly is compressed well, once, while uploads, readers and other servers go on.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { ContentLayouts } from '../../src/cache/content-layout.ts';
import { ContentReader, type Encoding } from '../../src/cache/content-reader.ts';
import { mergePacks } from '../../src/cache/garbage/merge-packs.ts';
import { settlePacks, unsettledBytesBefore, type Settling } from '../../src/cache/garbage/settle-packs.ts';
import { sweep } from '../../src/cache/garbage/sweep.ts';
import { readPackIndex } from '../../src/cache/recovery/pack-index.ts';
import { isWhole } from '../../src/cache/served-pieces.ts';
import { openPostgresDatabase } from '../../src/storage/postgres-database.ts';
import { markerOf } from '../../src/content/patched-frame.ts';
import { FRAME_KIND, rawLengthOf, type PackedFrame } from '../../src/content/pack-format.ts';
import { SlipwayError } from '../../src/util/errors.ts';
import { noise } from './cache-uploads.ts';
import { block, Scene } from './garbage-scene.ts';
import { openPostgresServer } from './postgres-server.ts';

const DAY = 24 * 3600_000;
const progress = async (): Promise<void> => await Promise.resolve();

/** A day later: what is small is then settled, too. */
async function settle(scene: Scene): Promise<Settling> {
  scene.now += DAY + 1;
  return await settlePacks(scene, { now: scene.now, youngMs: 10, settleBytes: 16_000_000, progress });
}

const reference = (hash: string): string => `/nix/store/${hash.repeat(32).slice(0, 32)}-library-1.0/lib\n`;

/** Bytes that compress some threefold, with references among them. */
function program(seed: string, size: number, hash: string): Buffer {
  const words =
    noise(size, seed)
      .toString('base64')
      .match(/.{1,9}/g) ?? [];
  const text = words
    .map((word, n) => (n % 900 === 0 ? reference(hash) : `${word} ${seed.repeat(3)} `))
    .join('');
  return Buffer.from(text).subarray(0, size);
}

const COMMON = program('common', 1_500_000, 'a');
const BEFORE = Buffer.concat([COMMON, program('old', 400_000, 'a'), COMMON.subarray(0, 700_000)]);
const AFTER = Buffer.concat([
  program('common', 1_500_000, 'b'),
  program('new', 500_000, 'b'),
  program('common', 1_500_000, 'b').subarray(0, 700_000),
]);

async function openContent(scene: Scene, name: string) {
  const { database, blobs } = scene;
  const layouts = new ContentLayouts(database);
  const reader = new ContentReader({ database, blobs, layouts, onDamage: () => assert.fail('damage') });
  const { content_id: id } = await database.read
    .selectFrom('store_path')
    .select('content_id')
    .where('store_path', 'like', `%-${name}`)
    .executeTakeFirstOrThrow();
  const layout = await layouts.find(id);
  assert.ok(layout);
  return {
    parts: layout.pieces.filter((piece) => !isWhole(piece)).length,
    read: async (encoding: Encoding, range?: { readonly start: number; readonly end: number }) => {
      const opened = await reader.open(id, encoding);
      const body = await opened?.start(range ?? { start: 0, end: opened.length });
      return Buffer.concat(
        await Array.fromAsync(body ?? assert.fail('absent'), (piece) => Buffer.from(piece)),
      );
    },
  };
}

/** Of packs that are in use. */
async function framesOf(scene: Scene): Promise<PackedFrame[]> {
  const packs = await scene.database.read
    .selectFrom('pack')
    .select('blob_key')
    .where('retired_at', 'is', null)
    .execute();
  const frames = packs.map(async ({ blob_key }) => (await readPackIndex(scene.blobs, blob_key)) ?? []);
  return (await Promise.all(frames)).flat().filter(({ kind }) => kind === FRAME_KIND.chunk);
}

const storedBytes = (frames: readonly PackedFrame[]): number =>
  frames.reduce((sum, { length }) => sum + length, 0);

test('settlePacks() makes what is stored smaller, in larger frames, and once', async () => {
  await using scene = await Scene.open();
  await scene.push('one', program('one', 2_500_000, 'a'));
  const quick = await framesOf(scene);
  const none = { packs: 0, savedBytes: 0 };
  const young = { now: scene.now + 5, youngMs: 10, settleBytes: 0, progress };
  assert.deepEqual(await settlePacks(scene, young), none);
  const little = { now: scene.now + 50, youngMs: 10, settleBytes: 16_000_000, progress };
  assert.deepEqual(await settlePacks(scene, little), none);
  const settling = await settle(scene);
  assert.equal(settling.packs, 1);
  const settled = await framesOf(scene);
  assert.ok(storedBytes(settled) < 0.95 * storedBytes(quick), `${storedBytes(settled)}`);
  assert.ok(settled.length < quick.length && settled.some((frame) => rawLengthOf(frame) > 600_000));
  assert.ok(settled.every((frame) => frame.settled === true && frame.length <= 1024 * 1024));
  await scene.assertSound();
  assert.equal(await unsettledBytesBefore(scene.database, scene.now), 0);
  assert.deepEqual(await settle(scene), none);
});

test('a settled content comes back by any range, as it is and as a zstd stream', async () => {
  await using scene = await Scene.open();
  await scene.push('before', BEFORE);
  await settle(scene);
  const content = await openContent(scene, 'before');
  const stream = await content.read('zstd');
  assert.ok(execFileSync('zstd', ['-dcq'], { input: stream, maxBuffer: 8_000_000 }).equals(BEFORE));
  for (const [encoding, whole] of [
    ['raw', BEFORE],
    ['zstd', stream],
  ] as const)
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(whole.length), async (start, length) => {
        const range = { start, end: Math.min(whole.length, start + length + 1) };
        assert.ok((await content.read(encoding, range)).equals(whole.subarray(range.start, range.end)));
      }),
      { numRuns: 30 },
    );
});

test('contents that share chunks are both made of whole frames once they are settled together', async () => {
  await using scene = await Scene.open();
  await scene.push('before', BEFORE);
  await scene.push('after', AFTER);
  assert.ok((await openContent(scene, 'after')).parts > 0);
  assert.equal((await settle(scene)).packs, 2);
  for (const name of ['before', 'after']) assert.equal((await openContent(scene, name)).parts, 0, name);
  await scene.assertSound();
});

test('what does not compress stays in frames that are read in one go', async () => {
  await using scene = await Scene.open();
  await scene.push('noise', noise(5_000_000, 'noise'));
  await settle(scene);
  assert.ok((await framesOf(scene)).every(({ length }) => length <= 1024 * 1024 + 4096));
  await scene.assertSound();
});

test('bytes of a content that look like a place of a frame stay what they are', async () => {
  await using scene = await Scene.open();
  const marks = Array.from({ length: 40 }, (_, n) => markerOf(n % 3, 60 + n));
  const mixed = marks.flatMap((mark, n) => [noise(9_000, `mixed ${n}`), mark]);
  await scene.push('marked', Buffer.concat([...mixed, Buffer.from(reference('a')), ...mixed]));
  assert.equal((await settle(scene)).packs, 1);
  await scene.assertSound();
});

test('a settling that is cut off anywhere loses nothing and is done by the next one', async () => {
  for (let step = 0; step < 7; step++) {
    await using scene = await Scene.open();
    await scene.push('before', BEFORE);
    for (let n = 0; n < 3; n++) await scene.push(`p${n}`, block(n));
    scene.crash.left = step;
    await settle(scene).catch(() => undefined);
    scene.crash.left = Infinity;
    await scene.assertSound();
    await sweep(scene.database, scene.blobs, { now: scene.now });
    await settle(scene);
    await scene.assertSound();
    assert.equal(await unsettledBytesBefore(scene.database, scene.now), 0, `cut at ${step}`);
  }
});

test('a pack that cannot be read is left as it is, and the others are settled', async () => {
  await using scene = await Scene.open();
  await scene.push('broken', program('broken', 600_000, 'a'));
  const [key = ''] = scene.blobs.blobs.keys();
  const bytes = scene.blobs.blobs.get(key) ?? assert.fail();
  await scene.push('whole', BEFORE);
  bytes[5_000] = (bytes[5_000] ?? 0) ^ 1;
  assert.equal((await settle(scene)).packs, 1);
  assert.ok(scene.blobs.blobs.has(key));
  assert.ok((await scene.read('whole'))?.equals(BEFORE));
});

test('on a full disk packs are left as they are, and the collection goes on', async () => {
  await using scene = await Scene.open();
  await scene.push('kept', BEFORE);
  await scene.pin('kept');
  scene.now += DAY + 10;
  scene.blobs.create = async () => {
    await Promise.resolve();
    throw new SlipwayError('unavailable', 'The disk is full.');
  };
  const { packs } = await scene.collect();
  assert.deepEqual([packs?.settled, packs?.rewritten], [0, 0]);
  await scene.assertSound();
});

test('small packs are merged as they are: settled frames stay settled, and few others do not settle them again', async () => {
  await using scene = await Scene.open();
  await scene.push('before', BEFORE);
  await settle(scene);
  for (let n = 0; n < 9; n++) await scene.push(`p${n}`, block(n).subarray(0, 900));
  scene.now += 100;
  assert.ok(((await mergePacks(scene, { now: scene.now, youngMs: 10, graceMs: 20 }))?.merged ?? 0) >= 9);
  await scene.assertSound();
  const frames = await framesOf(scene);
  assert.ok(frames.some(({ settled }) => settled === true));
  const before = storedBytes(frames.filter(({ settled }) => settled === true));
  await settle(scene);
  assert.equal(storedBytes((await framesOf(scene)).filter(({ length }) => length > 5_000)), before);
  await scene.assertSound();
});

test('an upload that counts on a chunk while its pack is settled finds it', async () => {
  for (const left of [0, 1, 2, 3]) {
    await using scene = await Scene.open();
    await scene.push('before', BEFORE);
    scene.meanwhile = { left, work: async () => await scene.push('after', AFTER) };
    await settle(scene);
    scene.meanwhile = undefined;
    await scene.assertSound();
    await settle(scene);
    await scene.assertSound();
  }
});

test('a collection settles what is old enough', async () => {
  await using scene = await Scene.open();
  await scene.push('kept', BEFORE);
  await scene.pin('kept');
  scene.now += DAY + 10;
  assert.equal((await scene.collect()).packs?.settled, 1);
  await scene.assertSound();
  scene.now += 100;
  assert.equal((await scene.collect()).packs?.removed, 1);
  assert.equal(scene.blobs.blobs.size, 1);
  await scene.assertSound();
});

test('packs come to rest on PostgreSQL, too', async () => {
  await using server = await openPostgresServer();
  await using scene = await Scene.over(await openPostgresDatabase({ url: await server.createDatabase() }));
  await scene.push('before', BEFORE);
  await scene.push('after', AFTER);
  assert.equal((await settle(scene)).packs, 2);
  await scene.assertSound();
  assert.equal(await unsettledBytesBefore(scene.database, scene.now), 0);
});
