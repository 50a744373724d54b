import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import {
  PACK_HEADER,
  TRAILER_BYTES,
  formatPackIndex,
  packIndexLength,
  parsePackIndex,
  parsePackTrailer,
} from './pack-format.ts';

const part = fc.record(
  { hash: fc.uint8Array({ minLength: 32, maxLength: 32 }), rawLength: fc.nat({ max: 2 ** 31 - 1 }) },
  { noNullPrototype: true },
);
const frame = fc.record(
  {
    kind: fc.constantFrom(1, 2),
    offset: fc.nat({ max: 2 ** 40 }),
    length: fc.nat({ max: 2 ** 31 - 1 }),
    crc: fc.nat({ max: 2 ** 31 - 1 }),
    parts: fc.array(part, { minLength: 1, maxLength: 5 }),
    settled: fc.constant(true as const),
  },
  { noNullPrototype: true, requiredKeys: ['kind', 'offset', 'length', 'crc', 'parts'] },
);
const frames = fc.uniqueArray(frame, { maxLength: 12, selector: ({ offset }) => offset });

test('parsePackIndex() inverts formatPackIndex()', () => {
  fc.assert(
    fc.property(frames, (packed) => {
      const index = formatPackIndex(packed);
      const entries = packed.reduce((sum, { parts }) => sum + parts.length, 0);
      assert.equal(parsePackTrailer(index.subarray(-TRAILER_BYTES)), entries);
      assert.equal(packIndexLength(entries), index.length);
      assert.deepEqual(parsePackIndex(index), packed);
    }),
  );
});

test('parsePackIndex() refuses any flipped bit and any shortening', () => {
  const index = formatPackIndex(fc.sample(frame, 3));
  for (let bit = 0; bit < index.length * 8; bit += 7) {
    const bent = Buffer.from(index);
    bent[bit >> 3] = (bent[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    // The skippable frame's own length is not ours to check: zstd reads it, we count from the end.
    if (bit >> 3 < 4 || bit >> 3 >= 8) assert.throws(() => parsePackIndex(bent), /damaged/);
  }
  for (const cut of [1, 16, index.length])
    assert.throws(() => parsePackIndex(index.subarray(cut)), /damaged/);
});

test('parsePackIndex() refuses an index that says two things of one frame', () => {
  const [one] = fc.sample(frame, 1);
  assert.ok(one);
  const changes = [
    { length: one.length + 1 },
    { crc: one.crc + 1 },
    { kind: 3 - one.kind },
    { settled: one.settled !== true },
  ];
  for (const change of changes)
    assert.throws(() => parsePackIndex(formatPackIndex([one, { ...one, ...change }])), /contradicts itself/);
});

test('PACK_HEADER is 16 bytes and a skippable frame to zstd', () => {
  assert.equal(PACK_HEADER.length, 16);
  assert.equal(zstdDecompressSync(PACK_HEADER).length, 0);
});
