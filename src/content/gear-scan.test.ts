import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GearScan } from './gear-scan.ts';

const gear = Int32Array.from({ length: 256 }, (_, n) => Math.imul(n + 1, 0x9e3779b1));

function findPlainly(bytes: Uint8Array, seed: number, limit: number): number {
  let hash = seed;
  for (const [index, byte] of bytes.entries()) {
    hash = ((hash << 1) + (gear[byte] ?? 0)) | 0;
    if (hash >>> 0 < limit) return index + 1;
  }
  return -1;
}

test('GearScan finds what a plain loop finds, wherever it is', () => {
  const scan = new GearScan(gear, 1000);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 1000, size: 'max' }),
      fc.integer(),
      fc.integer({ min: 0, max: 28 }),
      (bytes, seed, bits) => {
        assert.equal(scan.find(bytes, seed, 2 ** bits), findPlainly(bytes, seed, 2 ** bits));
      },
    ),
    { numRuns: 2000 },
  );
});

test('GearScan finds the first of several, at each place of a turn', () => {
  const scan = new GearScan(gear, 100);
  for (let length = 0; length <= 40; length++)
    for (let seed = 0; seed < 50; seed++) {
      const bytes = Uint8Array.from({ length }, (_, n) => (n * 7 + seed * 13) & 0xff);
      assert.equal(scan.find(bytes, seed, 2 ** 29), findPlainly(bytes, seed, 2 ** 29));
    }
});

test('GearScan takes no more than its window has', () => {
  assert.throws(() => new GearScan(gear, 100_000).find(new Uint8Array(130_049), 0, 1), RangeError);
});
