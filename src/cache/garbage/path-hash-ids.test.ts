import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PathHashIds } from './path-hash-ids.ts';

function hash(n: number): string {
  return `${n}`.padStart(32, 'x');
}

test('PathHashIds numbers texts as a Map would, whatever their number and length', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '0'), minLength: 1, maxLength: 32 });
  fc.assert(
    fc.property(fc.array(text, { maxLength: 3000 }), (texts) => {
      const ids = new PathHashIds();
      const expected = new Map<string, number>();
      for (const one of texts) {
        if (!expected.has(one)) expected.set(one, expected.size);
        assert.equal(ids.idOf(one), expected.get(one));
      }
      assert.equal(ids.count, expected.size);
      for (const [one, id] of expected) assert.equal(ids.textOf(id), one);
    }),
    { numRuns: 30 },
  );
});

test('PathHashIds grows past its first size', () => {
  const ids = new PathHashIds();
  for (let n = 0; n < 5000; n++) assert.equal(ids.idOf(hash(n)), n);
  for (let n = 0; n < 5000; n += 7) {
    assert.equal(ids.idOf(hash(n)), n);
    assert.equal(ids.textOf(n), hash(n));
  }
});
