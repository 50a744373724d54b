import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatRecipe, formatVarint, parseRecipe, type RecipeChunk } from './recipe.ts';

const hash = fc.uint8Array({ minLength: 32, maxLength: 32 });
const gaps = fc.array(
  fc.record({ gap: fc.nat(5000), literal: fc.uint8Array({ minLength: 1, maxLength: 60 }) }),
  { minLength: 1, maxLength: 10 },
);

function patchedChunk(chunk: {
  readonly hash: Uint8Array;
  readonly gaps: readonly { readonly gap: number; readonly literal: Uint8Array }[];
}) {
  let end = 0;
  const patches = chunk.gaps.map(({ gap, literal }) => {
    const patch = { offset: end + gap, literal: Buffer.from(literal) };
    end = patch.offset + literal.length;
    return patch;
  });
  return { hash: chunk.hash, rawLength: end + 7, patches };
}

const recipe = fc.record({
  hash,
  size: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  chunks: fc.array(
    fc.oneof(
      fc.record({ hash, rawLength: fc.nat({ max: 2 ** 31 - 1 }) }),
      fc.record({ hash, gaps }).map(patchedChunk),
    ),
    { maxLength: 20 },
  ),
});

function plainly({ hash: bytes, rawLength, patches }: RecipeChunk): unknown {
  const listed = patches?.map(({ offset, literal }) => [offset, literal.toString('hex')]);
  return [Buffer.from(bytes).toString('hex'), rawLength, listed];
}

test('parseRecipe() inverts formatRecipe()', () => {
  fc.assert(
    fc.property(recipe, (value) => {
      const parsed = parseRecipe(formatRecipe(value));
      assert.equal(parsed.size, value.size);
      assert.deepEqual([...parsed.hash], [...value.hash]);
      assert.deepEqual(parsed.chunks.map(plainly), value.chunks.map(plainly));
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

test('parseRecipe() refuses patches that name no literal or reach beyond their chunk', () => {
  const patches = [{ offset: 5, literal: Buffer.from('literal') }];
  const short = {
    hash: new Uint8Array(32),
    size: 11,
    chunks: [{ hash: Buffer.alloc(32), rawLength: 11, patches }],
  };
  assert.throws(() => parseRecipe(formatRecipe(short)), /wrong patch/);
});

const patch = (text: string, offset: number) => ({ offset, literal: Buffer.from(text) });
const chunk = (...patches: ReturnType<typeof patch>[]) => ({
  hash: Buffer.alloc(32, 1),
  rawLength: 99,
  patches,
});

test('a recipe is the same whatever comes after it: literals are numbered by first use', () => {
  const bytes = formatRecipe({
    hash: Buffer.alloc(32, 2),
    size: 198,
    chunks: [chunk(patch('one', 1), patch('two', 9)), chunk(patch('two', 0), patch('one', 3))],
  });
  const literals = Buffer.concat([
    Buffer.from([2, 3]),
    Buffer.from('one'),
    Buffer.from([3]),
    Buffer.from('two'),
  ]);
  assert.ok(bytes.includes(literals));
  assert.ok(bytes.includes(Buffer.from([99, 2, 1, 0, 5, 1])));
});
