import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { chunkGroups, encodeGroup } from './chunk-frames.ts';
import { patchedChunkHash, plainChunkHash, findTrueChunks, type ChunkSpan } from './chunk-identity.ts';
import type { PatchedChunk } from './chunk-patcher.ts';
import { MAX_CHUNK } from './chunker.ts';
import { cutFrame } from './remake-frames.ts';
import { FRAME_BYTES } from './frame-codec.ts';
import { FILLER } from './normaliser.ts';
import { markerOf, MOST_PLACES_A_FRAME } from './patched-frame.ts';
import { verifyFrame, type NamedChunk } from './verify-frame.ts';

/** Text that compresses, another for each seed. */
function text(seed: string, length: number): Buffer {
  const lines = Array.from({ length: length / 40 + 1 }, (_, n) =>
    createHash('sha256')
      .update(`${seed} ${n % 200}`)
      .digest('hex')
      .slice(0, 39),
  );
  return Buffer.from(lines.join('\n')).subarray(0, length);
}

function plainChunk(seed: string, length = 60_000): PatchedChunk {
  const bytes = text(seed, length);
  return { hash: plainChunkHash(bytes), bytes, patches: [] };
}

function patchedChunk(seed: string, offsets: readonly number[], length = 60_000): PatchedChunk {
  const bytes = text(seed, length);
  const patches = offsets.map((offset, n) => ({
    offset,
    literal: Buffer.alloc(44, `${seed} ${n} literal `),
  }));
  const places = patches.map(({ offset }) => ({ offset, length: 44 }));
  for (const { offset } of places) bytes.fill(FILLER, offset, offset + 44);
  return { hash: patchedChunkHash(bytes, places), bytes, patches };
}

const named = ({ hash, bytes, patches }: PatchedChunk): NamedChunk => ({
  hash,
  rawLength: bytes.length,
  places: patches.map(({ offset, literal }) => ({ offset, length: literal.length })),
});

function spansOf(chunks: readonly PatchedChunk[]): ChunkSpan[] {
  let end = 0;
  return chunks.map(({ hash, bytes }) => {
    const offset = end;
    end += bytes.length;
    return { hash, offset, rawLength: bytes.length };
  });
}

const GROUP = [
  plainChunk('a'),
  patchedChunk('b', [0, 500, 59_956]),
  plainChunk('c'),
  patchedChunk('d', [100, 144, 7000]),
  plainChunk('e', 20_000),
];
const GROUP_BYTES = GROUP.reduce((sum, { bytes }) => sum + bytes.length, 0);

test('chunkGroups() puts neighbours together until a frame is full', () => {
  const groups = chunkGroups();
  const chunks = Array.from({ length: 20 }, (_, n) => plainChunk(`${n}`));
  for (const [n, chunk] of chunks.entries()) {
    if (n === 3) groups.part();
    groups.add(chunk);
  }
  assert.deepEqual(groups.groups.flat(), chunks);
  assert.deepEqual(
    groups.groups.map((group) => group.length),
    [3, 8, 8, 1],
  );
  for (const group of groups.groups)
    assert.ok(group.reduce((sum, { bytes }) => sum + bytes.length, 0) <= FRAME_BYTES);
});

test('chunkGroups() leaves a chunk of the largest size alone: it repeats, so others will need it without its neighbours', () => {
  const groups = chunkGroups();
  const zeros = Buffer.alloc(MAX_CHUNK);
  const repeated = { hash: plainChunkHash(zeros), bytes: zeros, patches: [] };
  for (const chunk of [plainChunk('a'), repeated, plainChunk('b'), plainChunk('c')]) groups.add(chunk);
  assert.deepEqual(
    groups.groups.map((group) => group.length),
    [1, 1, 2],
  );
});

test('chunkGroups() keeps the number of places in a frame bounded', () => {
  const groups = chunkGroups();
  const many = patchedChunk(
    'many',
    Array.from({ length: 500 }, (_, n) => n * 100),
  );
  for (let n = 0; n < 6; n++) groups.add(many);
  for (const group of groups.groups)
    assert.ok(group.reduce((sum, { patches }) => sum + patches.length, 0) <= MOST_PLACES_A_FRAME);
  assert.equal(groups.groups.length, 3);
});

test('encodeGroup() makes one frame that verifyFrame() proves to hold the chunks, plain ones and ones with places', async () => {
  const [made, ...more] = await encodeGroup(GROUP);
  assert.ok(made);
  assert.equal(more.length, 0);
  const proven = await verifyFrame(made.frame, GROUP.map(named));
  for (const [n, bytes] of proven.entries()) assert.ok(bytes.equals((GROUP[n] as PatchedChunk).bytes));
  assert.deepEqual(await findTrueChunks(made.frame, GROUP_BYTES, spansOf(GROUP)), spansOf(GROUP));
});

test('encodeGroup() leaves out the one chunk that zstd makes no frame of', async () => {
  // Bytes of the marker that the place will get make zstd copy them instead of writing a block.
  const bad = patchedChunk('bad', [3000]);
  const misleading = Buffer.from(bad.bytes);
  markerOf(0, 44).copy(misleading, 1000);
  const hostile = { ...bad, bytes: misleading };
  const frames = await encodeGroup([plainChunk('x'), hostile, plainChunk('y'), plainChunk('z')]);
  const framed = frames.flatMap(({ chunks }) => chunks);
  assert.deepEqual(
    framed.map(({ hash }) => hash),
    ['x', 'y', 'z'].map((seed) => plainChunk(seed).hash),
  );
});

test('verifyFrame() refuses other names, another order, other cuts, more or fewer chunks', async () => {
  const [made] = await encodeGroup(GROUP);
  assert.ok(made);
  const names = GROUP.map(named);
  const [a, b, c, d, e] = names as [NamedChunk, NamedChunk, NamedChunk, NamedChunk, NamedChunk];
  const wrong: readonly (readonly NamedChunk[])[] = [
    [b, a, c, d, e],
    [a, b, c, d],
    [a, b, c, d, e, e],
    [{ ...a, hash: randomBytes(32) }, b, c, d, e],
    [{ ...a, rawLength: 59_999 }, { ...b, rawLength: 60_001 }, c, d, e],
    [a, { ...b, places: b.places.slice(1) }, c, d, e],
    [a, { ...b, places: [] }, c, d, e],
    [a, b, { ...c, hash: b.hash }, d, e],
    [],
  ];
  for (const chunks of wrong)
    await assert.rejects(verifyFrame(made.frame, chunks), (error) => isCode(error, 'invalid'));
});

test('cutFrame() makes frames of what is kept, neighbours together, each proven', async () => {
  const [made] = await encodeGroup(GROUP);
  assert.ok(made);
  const spans = spansOf(GROUP);
  const keep = [1, 2, 4].map((n) => spans[n] as ChunkSpan);
  const cut = await cutFrame(made.frame, GROUP_BYTES, keep);
  assert.deepEqual(
    cut.map(({ chunks }) => chunks.map(({ hash }) => hash)),
    [[GROUP[1]?.hash, GROUP[2]?.hash], [GROUP[4]?.hash]],
  );
  await verifyFrame(
    cut[0]?.frame as Buffer,
    [GROUP[1], GROUP[2]].map((chunk) => named(chunk as PatchedChunk)),
  );
  await verifyFrame(cut[1]?.frame as Buffer, [named(GROUP[4] as PatchedChunk)]);
});

test('cutFrame() fails rather than file bytes under a name that is not theirs', async () => {
  const [made] = await encodeGroup(GROUP);
  assert.ok(made);
  const [first, second] = spansOf(GROUP);
  const forged = [{ ...(first as ChunkSpan), hash: (second as ChunkSpan).hash }];
  await assert.rejects(cutFrame(made.frame, GROUP_BYTES, forged), (error) => isCode(error, 'unavailable'));
});
