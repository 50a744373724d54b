import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { findTrueChunks } from '../content/chunk-identity.ts';
import { decodeFrame } from '../content/frame-codec.ts';
import {
  FRAME_KIND,
  packIndexLength,
  parsePackIndex,
  parsePackTrailer,
  rawLengthOf,
  TRAILER_BYTES,
  type PackedFrame,
} from '../content/pack-format.ts';
import { parseRecipe } from '../content/recipe.ts';
import { chunksOf } from './ingest/commit-content.ts';

const VECTORS = new URL('../../test/vectors/cache/', import.meta.url);
const CONTENT = '68905cdc8801d900bddf08023c8e6e0862333e59f0ebd3fc55ffb473033ac312';

interface StoredPack {
  readonly bytes: Buffer;
  readonly frames: readonly PackedFrame[];
}

function readPack(name: string): StoredPack {
  const bytes = readFileSync(new URL(name, VECTORS));
  const count = parsePackTrailer(bytes.subarray(-TRAILER_BYTES));
  return { bytes, frames: parsePackIndex(bytes.subarray(-packIndexLength(count))) };
}

async function decode({ bytes }: StoredPack, frame: PackedFrame): Promise<Buffer> {
  const stored = bytes.subarray(frame.offset, frame.offset + frame.length);
  assert.equal(crc32(stored), frame.crc);
  if (frame.kind === FRAME_KIND.chunk) {
    const spans = chunksOf(frame);
    assert.deepEqual(await findTrueChunks(stored, rawLengthOf(frame), spans), spans);
  }
  return await decodeFrame(stored, rawLengthOf(frame));
}

for (const { name, patched, shared } of [
  { name: 'plain-v1.pack', patched: false, shared: false },
  { name: 'patched-v1.pack', patched: true, shared: false },
  { name: 'shared-v2.pack', patched: true, shared: true },
])
  test(`${name}: a pack stays readable from its bytes alone`, async () => {
    const pack = readPack(name);
    const described = pack.frames.find(({ kind }) => kind === FRAME_KIND.recipe);
    assert.ok(described);
    const recipe = parseRecipe(await decode(pack, described));
    const chunks = pack.frames.filter(({ kind }) => kind === FRAME_KIND.chunk).flatMap(chunksOf);
    const parts: Buffer[] = [];
    for (const { hash, rawLength, patches } of recipe.chunks) {
      const stored = chunks.find((chunk) => Buffer.from(chunk.hash).equals(hash));
      assert.ok(stored);
      const decoded = await decode(pack, stored.frame);
      const part = Buffer.from(decoded.subarray(stored.offset, stored.offset + rawLength));
      for (const { offset, literal } of patches ?? []) literal.copy(part, offset);
      parts.push(part);
    }
    assert.equal(recipe.chunks.filter(({ patches }) => patches !== undefined).length > 0, patched);
    assert.equal(
      pack.frames.some(({ parts: held }) => held.length > 1),
      shared,
    );
    const content = Buffer.concat(parts);
    assert.equal(content.length, recipe.size);
    assert.ok(createHash('sha256').update(content).digest().equals(recipe.hash));
    assert.equal(createHash('sha256').update(content).digest('hex'), CONTENT);
  });
