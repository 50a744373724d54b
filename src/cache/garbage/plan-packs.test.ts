import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { planPackGroups, type PackUse } from './plan-packs.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const dense = (size: number): PackUse => ({ size, liveBytes: size });
const times = (count: number, size: number): PackUse[] => Array.from({ length: count }, () => dense(size));
const counts = (packs: readonly PackUse[]): number[] => planPackGroups(packs).map((group) => group.length);

test('planPackGroups() puts small packs together once there are enough', () => {
  assert.deepEqual(counts(times(7, 10 * KIB)), []);
  assert.deepEqual(counts(times(8, 10 * KIB)), [8]);
  assert.deepEqual(counts(times(1000, 100 * KIB)), [614, 386]);
  assert.deepEqual(
    counts(times(4, 15 * MIB)),
    [4],
    'the first is larger than nothing before it, the others are not',
  );
  assert.deepEqual(counts([...times(7, 100 * KIB), ...times(17, 1100 * KIB)]), [24], 'one step up is no end');
  assert.deepEqual(counts([...times(20, 700 * KIB), ...times(3, 13 * MIB)]), [23]);
});

test('planPackGroups() leaves a large pack alone for a few tiny ones', () => {
  assert.deepEqual(counts([dense(15 * MIB), ...times(7, 10 * KIB)]), []);
  assert.deepEqual(counts([dense(15 * MIB), ...times(9, 10 * KIB)]), [9]);
  assert.deepEqual(counts(times(50, 16 * MIB)), [], 'large enough');
});

test('planPackGroups() rewrites what is sparse, alone if need be, with the small ones that fit beside it', () => {
  assert.deepEqual(counts([{ size: 60 * MIB, liveBytes: 20 * MIB }]), [1]);
  assert.deepEqual(counts([{ size: 60 * MIB, liveBytes: 0 }, dense(60 * MIB)]), [1]);
  assert.deepEqual(counts([{ size: 60 * MIB, liveBytes: 20 * MIB }, ...times(2, 10 * MIB)]), [3]);
});

/** Bytes of packs that are as large as they get, and what waits beside them. */
const uploads = fc.array(
  fc.oneof(fc.integer({ min: 300, max: 200 * KIB }), fc.integer({ min: 300, max: 8 * MIB })),
  {
    minLength: 1,
    maxLength: 1500,
    size: 'max',
  },
);

test('planPackGroups() keeps few packs however uploads come, and copies each byte a few times', () => {
  fc.assert(
    fc.property(uploads, fc.integer({ min: 1, max: 60 }), (sizes, everySo) => {
      let packs: PackUse[] = [];
      let [copied, total] = [0, 0];
      for (const [n, size] of sizes.entries()) {
        packs.push(dense(size));
        total += size;
        if (n % everySo !== 0 && n !== sizes.length - 1) continue;
        for (const group of planPackGroups(packs)) {
          const bytes = group.reduce((sum, pack) => sum + pack.size, 0);
          copied += bytes;
          packs = [...packs.filter((pack) => !group.includes(pack)), dense(bytes)];
        }
      }
      assert.ok(packs.length <= 16 + total / (16 * MIB), `${packs.length} packs hold ${total} bytes`);
      const tiny = sizes.length * (MIB / 8);
      assert.ok(copied <= 6 * total + tiny, `${copied} bytes were copied for ${total}`);
      assert.ok(packs.every(({ size }) => size <= 60 * MIB || size <= 8 * MIB));
    }),
    { numRuns: 200 },
  );
});
