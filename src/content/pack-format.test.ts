import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import {
  PACK_HEADER,
  TRAILER_BYTES,
  formatPackIndex,
  parsePackIndex,
  parsePackTrailer,
} from './pack-format.ts';

const entry = fc.record(
  {
    kind: fc.constantFrom(1, 2),
    hash: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    offset: fc.nat({ max: 2 ** 40 }),
    frameLength: fc.nat({ max: 2 ** 31 - 1 }),
    rawLength: fc.nat({ max: 2 ** 31 - 1 }),
    frameCrc: fc.nat({ max: 2 ** 31 - 1 }),
  },
  { noNullPrototype: true },
);

test('parsePackIndex() inverts formatPackIndex()', () => {
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 20 }), (entries) => {
      const index = formatPackIndex(entries);
      assert.equal(parsePackTrailer(index.subarray(-TRAILER_BYTES)), entries.length);
      assert.deepEqual(parsePackIndex(index), entries);
    }),
  );
});

test('parsePackIndex() refuses any flipped bit and any shortening', () => {
  const index = formatPackIndex(fc.sample(entry, 3));
  for (let bit = 0; bit < index.length * 8; bit += 7) {
    const bent = Buffer.from(index);
    bent[bit >> 3] = (bent[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    // The skippable frame's own length is not ours to check: zstd reads it, we count from the end.
    if (bit >> 3 < 4 || bit >> 3 >= 8) assert.throws(() => parsePackIndex(bent), /damaged/);
  }
  for (const cut of [1, 16, index.length])
    assert.throws(() => parsePackIndex(index.subarray(cut)), /damaged/);
});

test('PACK_HEADER is 16 bytes and a skippable frame to zstd', () => {
  assert.equal(PACK_HEADER.length, 16);
  assert.equal(zstdDecompressSync(PACK_HEADER).length, 0);
});
