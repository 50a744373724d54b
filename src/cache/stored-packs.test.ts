import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { isChunkFrame } from '../content/chunk-identity.ts';
import { decodeFrame } from '../content/frame-codec.ts';
import {
  FRAME_KIND,
  parsePackIndex,
  parsePackTrailer,
  TRAILER_BYTES,
  type PackEntry,
} from '../content/pack-format.ts';
import { fillPlaces } from '../content/patched-frame.ts';
import { parseRecipe } from '../content/recipe.ts';

const VECTORS = new URL('../../test/vectors/cache/', import.meta.url);
const INDEX_ENTRY_BYTES = 56;
const CONTENT = '68905cdc8801d900bddf08023c8e6e0862333e59f0ebd3fc55ffb473033ac312';

interface StoredPack {
  readonly bytes: Buffer;
  readonly entries: readonly PackEntry[];
}

function readPack(name: string): StoredPack {
  const bytes = readFileSync(new URL(name, VECTORS));
  const count = parsePackTrailer(bytes.subarray(-TRAILER_BYTES));
  return { bytes, entries: parsePackIndex(bytes.subarray(-(8 + count * INDEX_ENTRY_BYTES + TRAILER_BYTES))) };
}

function frameOf({ bytes }: StoredPack, entry: PackEntry): Buffer {
  const frame = Buffer.from(bytes.subarray(entry.offset, entry.offset + entry.frameLength));
  assert.equal(crc32(frame), entry.frameCrc);
  return frame;
}

for (const { name, patched } of [
  { name: 'plain-v1.pack', patched: false },
  { name: 'patched-v1.pack', patched: true },
])
  test(`${name}: a pack of an earlier Slipway stays readable from its bytes alone`, async () => {
    const pack = readPack(name);
    const entry = pack.entries.find(({ kind }) => kind === FRAME_KIND.recipe);
    assert.ok(entry);
    const recipe = parseRecipe(await decodeFrame(frameOf(pack, entry), entry.rawLength));
    const parts: Buffer[] = [];
    for (const chunk of recipe.chunks) {
      const stored = pack.entries.find(({ hash }) => Buffer.from(hash).equals(chunk.hash));
      assert.ok(stored);
      const frame = frameOf(pack, stored);
      assert.ok(await isChunkFrame(frame, chunk.rawLength, chunk.hash));
      if (chunk.patches)
        fillPlaces(
          frame,
          chunk.patches.map(({ literal }) => literal),
        );
      parts.push(await decodeFrame(frame, chunk.rawLength));
    }
    assert.equal(recipe.chunks.filter(({ patches }) => patches !== undefined).length > 0, patched);
    const content = Buffer.concat(parts);
    assert.equal(content.length, recipe.size);
    assert.ok(createHash('sha256').update(content).digest().equals(recipe.hash));
    assert.equal(createHash('sha256').update(content).digest('hex'), CONTENT);
  });
