import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatRecipe, formatVarint, parseRecipe } from './recipe.ts';

const hash = fc.uint8Array({ minLength: 32, maxLength: 32 });
const recipe = fc.record({
  hash,
  size: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  chunks: fc.array(fc.record({ hash, rawLength: fc.nat({ max: 2 ** 31 - 1 }) }), { maxLength: 20 }),
});

test('parseRecipe() inverts formatRecipe()', () => {
  fc.assert(
    fc.property(recipe, (value) => {
      const parsed = parseRecipe(formatRecipe(value));
      assert.equal(parsed.size, value.size);
      assert.deepEqual([...parsed.hash], [...value.hash]);
      assert.deepEqual(
        parsed.chunks.map((chunk) => [Buffer.from(chunk.hash).toString('hex'), chunk.rawLength]),
        value.chunks.map((chunk) => [Buffer.from(chunk.hash).toString('hex'), chunk.rawLength]),
      );
    }),
  );
});

test('parseRecipe() refuses any flipped bit and any shortening', () => {
  const [value] = fc.sample(recipe, 1);
  assert.ok(value);
  const bytes = formatRecipe(value);
  for (let at = 0; at < bytes.length; at++) {
    const bent = Buffer.from(bytes);
    bent[at] = (bent[at] ?? 0) ^ 1;
    assert.throws(() => parseRecipe(bent), /cannot be read/);
    assert.throws(() => parseRecipe(bytes.subarray(0, at)), /cannot be read/);
  }
});

test('formatVarint() is LEB128', () => {
  assert.deepEqual([...formatVarint(0)], [0]);
  assert.deepEqual([...formatVarint(300)], [0xac, 0x02]);
  assert.equal(formatVarint(Number.MAX_SAFE_INTEGER).length, 8);
});
