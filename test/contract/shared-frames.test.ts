// Chunks share frames: contents that use a part of a frame come back whole, by any range, and garbage is cut out of frames.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { sql } from 'kysely';
import { ContentLayouts } from '../../src/cache/content-layout.ts';
import { ContentReader, type Encoding } from '../../src/cache/content-reader.ts';
import { deletePath } from '../../src/cache/garbage/delete-path.ts';
import { commitContent } from '../../src/cache/ingest/commit-content.ts';
import { ContentWriter } from '../../src/cache/ingest/content-writer.ts';
import { readPackIndex } from '../../src/cache/recovery/pack-index.ts';
import { isWhole } from '../../src/cache/served-pieces.ts';
import { decodeFrame } from '../../src/content/frame-codec.ts';
import { FRAME_KIND, rawLengthOf } from '../../src/content/pack-format.ts';
import { parseRecipe } from '../../src/content/recipe.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { openDiskBlobStore } from '../../src/storage/disk-blob-store.ts';
import { openSqliteDatabase } from '../../src/storage/sqlite-database.ts';
import { noise } from './cache-uploads.ts';
import { Scene } from './garbage-scene.ts';

const reference = (hash: string): Buffer =>
  Buffer.from(`/nix/store/${hash.repeat(32).slice(0, 32)}-library-1.0/lib\n`);

/** Some 1.4 MB in three frames, references to `hash` among them. */
function program(hash: string, ...middle: readonly Buffer[]): Buffer {
  return Buffer.concat([
    noise(400_000, 'begin'),
    reference(hash),
    noise(300_000, 'second'),
    ...middle,
    reference(hash),
    noise(600_000, 'third'),
    reference(hash),
    noise(90_000, 'end'),
  ]);
}

const BEFORE = program('a');
/** What an update makes of it: other references, and something new in the middle. */
const AFTER = program('b', noise(150_000, 'new'));

async function contentOf(scene: Scene, name: string) {
  const layouts = new ContentLayouts(scene.database);
  const { database, blobs } = scene;
  const reader = new ContentReader({ database, blobs, layouts, onDamage: () => assert.fail('damage') });
  const { content_id } = await scene.database.read
    .selectFrom('store_path')
    .select('content_id')
    .where('store_path', 'like', `%-${name}`)
    .executeTakeFirstOrThrow();
  const layout = await layouts.find(content_id);
  assert.ok(layout);
  return {
    whole: layout.pieces.filter(isWhole).length,
    parts: layout.pieces.filter((piece) => !isWhole(piece)).length,
    read: async (encoding: Encoding, range?: { readonly start: number; readonly end: number }) => {
      const opened = await reader.open(content_id, encoding);
      assert.ok(opened);
      const body = await opened.start(range ?? { start: 0, end: opened.length });
      assert.ok(body);
      return Buffer.concat(await Array.fromAsync(body, (piece) => Buffer.from(piece)));
    },
  };
}

function unzstd(stream: Buffer): Buffer {
  return execFileSync('zstd', ['-dcq'], { input: stream, maxBuffer: 8_000_000 });
}

async function pushBoth(scene: Scene): Promise<void> {
  await scene.push('before', BEFORE);
  await scene.push('after', AFTER);
}

test('a content that has a part of a frame comes back, as it is and as a zstd stream', async () => {
  await using scene = await Scene.open();
  await pushBoth(scene);
  const [before, after] = [await contentOf(scene, 'before'), await contentOf(scene, 'after')];
  assert.deepEqual([before.whole > 2, before.parts], [true, 0]);
  assert.ok(after.whole >= 2 && after.parts >= 2, `${after.whole} whole frames, ${after.parts} parts`);
  for (const [content, bytes] of [
    [before, BEFORE],
    [after, AFTER],
  ] as const) {
    assert.ok((await content.read('raw')).equals(bytes));
    assert.ok(unzstd(await content.read('zstd')).equals(bytes));
  }
});

test('any range of such a content is that range of the whole', async () => {
  await using scene = await Scene.open();
  await pushBoth(scene);
  const after = await contentOf(scene, 'after');
  for (const encoding of ['raw', 'zstd'] as const) {
    const whole = await after.read(encoding);
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length), fc.nat(whole.length), async (a, b) => {
        const range = { start: Math.min(a, b), end: Math.max(a, b) };
        if (range.start === range.end) return;
        assert.ok((await after.read(encoding, range)).equals(whole.subarray(range.start, range.end)));
      }),
      { numRuns: 40 },
    );
  }
});

/** Everything that packs hold, decoded. */
async function allBytes({ blobs }: Scene): Promise<Buffer> {
  const decoded: Buffer[] = [];
  for (const key of blobs.blobs.keys())
    for (const frame of (await readPackIndex(blobs, key)) ?? assert.fail('no index')) {
      const bytes = await blobs.read(key, frame.offset, frame.length);
      if (frame.kind === FRAME_KIND.chunk && bytes)
        decoded.push(await decodeFrame(bytes, rawLengthOf(frame)));
    }
  return Buffer.concat(decoded);
}

async function collectAll(scene: Scene): Promise<void> {
  for (let round = 0; round < 8; round++) {
    scene.now += 60;
    await scene.use('after');
    await scene.collect();
    await scene.assertSound();
  }
}

test('garbage collection cuts what is not needed out of frames, and what is left is whole frames again', async () => {
  await using scene = await Scene.open();
  // Much that goes and a little that stays, in the same frames.
  await scene.push('large', Buffer.concat([noise(900_000, 'gone'), BEFORE, noise(900_000, 'gone as well')]));
  await scene.push('after', AFTER);
  await collectAll(scene);
  assert.deepEqual(await scene.names(), ['after']);
  const stored = await allBytes(scene);
  assert.ok(stored.length < AFTER.length * 1.05, `${stored.length} bytes for ${AFTER.length}`);
  const after = await contentOf(scene, 'after');
  assert.equal(after.parts, 0);
  assert.ok(unzstd(await after.read('zstd')).equals(AFTER));
});

test('deletePath() takes its bytes out of frames that others use a part of', async () => {
  await using scene = await Scene.open();
  const secret = noise(150_000, 'secret');
  await scene.push('leaked', program('a', secret));
  await scene.push('after', AFTER);
  const inside = secret.subarray(60_000, 70_000);
  assert.ok((await allBytes(scene)).includes(inside));
  const [row] = await scene.database.read
    .selectFrom('store_path')
    .select('store_path')
    .where('store_path', 'like', '%-leaked')
    .execute();
  const deletion = await deletePath(scene, parseStorePath(row?.store_path ?? ''), { force: false });
  assert.deepEqual(
    [deletion.proven, deletion.removedChunks > 0, deletion.sharedChunks > 0],
    [true, true, true],
  );
  assert.ok(!(await allBytes(scene)).includes(inside));
  await scene.assertSound();
  assert.deepEqual(await scene.names(), ['after']);
});

test('docs/FORMATS.md finds a chunk in a pack and decodes it, by the commands that it shows', async () => {
  const docs = readFileSync(new URL('../../docs/FORMATS.md', import.meta.url), 'utf8');
  const [, query] = /"(select blob_key[^"]*) limit 1"/.exec(docs) ?? [];
  const [, variables] = /^\$ read (.*) < found/m.exec(docs) ?? [];
  const [, command] = /^\$ (dd if=packs[^`]*sha256sum)$/m.exec(docs) ?? [];
  assert.ok(query !== undefined && variables !== undefined && command !== undefined);
  const folder = mkdtempSync(path.join(tmpdir(), 'slipway-formats-'));
  try {
    await using blobs = await openDiskBlobStore(path.join(folder, 'packs'));
    await using database = await openSqliteDatabase(path.join(folder, 'slipway.db'));
    await using writer = new ContentWriter(database, blobs);
    await writer.write(BEFORE);
    const staged = { ...(await writer.finish()), flatHash: undefined };
    await database.write(async (transaction) => await commitContent(transaction, staged, 1));
    const { rows } = await sql.raw<Record<string, string | number>>(query).execute(database.read);
    const found = rows.map((row) => {
      const values = Object.values(row).map(String);
      const env = Object.fromEntries(variables.split(' ').map((name, n) => [name, values[n]]));
      const output = execFileSync('sh', ['-c', command], { cwd: folder, env: { ...process.env, ...env } });
      return output.toString() === `${env['NAME']}  -\n`;
    });
    const { chunks } = parseRecipe(staged.recipe);
    const plain = chunks.filter(({ patches }) => patches === undefined);
    assert.equal(found.length, chunks.length);
    assert.deepEqual([found.filter(Boolean).length, plain.length > 5], [plain.length, true]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
