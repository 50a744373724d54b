import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { LARGEST_FRAME_BYTES } from '../../content/frame-codec.ts';
import type { Recipe, RecipeChunk } from '../../content/recipe.ts';
import { chunkKey } from '../stored-chunks.ts';
import { planFrames } from './plan-frames.ts';

const KIB = 1024;

function chunk(name: string, rawLength = 64 * KIB, places = 0): RecipeChunk {
  const patches = Array.from({ length: places }, (_, n) => ({ offset: 40 * n, literal: Buffer.alloc(20) }));
  return { hash: createHash('sha256').update(name).digest(), rawLength, ...(places > 0 && { patches }) };
}

function recipe(...chunks: readonly RecipeChunk[]): Recipe {
  const size = chunks.reduce((sum, { rawLength }) => sum + rawLength, 0);
  return { hash: Buffer.alloc(32), size, chunks };
}

function letters(text: string): Recipe {
  return recipe(...text.split('').map((letter) => chunk(letter)));
}

/** The groups as words; a letter is a chunk. */
function plan(recipes: readonly string[], wanted: string = recipes.join('')): string[] {
  const names = new Map(
    recipes
      .join('')
      .split('')
      .map((letter) => [chunkKey(chunk(letter).hash), letter]),
  );
  const keys = new Set(wanted.split('').map((letter) => chunkKey(chunk(letter).hash)));
  return planFrames(recipes.map(letters), keys).map((group) => group.map((key) => names.get(key)).join(''));
}

test('planFrames() puts chunks together that follow each other in a content', () => {
  assert.deepEqual(plan(['abc', 'de']), ['abc', 'de']);
  assert.deepEqual(plan(['abcde'], 'abde'), ['ab', 'de'], 'what is not wanted parts its neighbours');
  assert.deepEqual(plan(['abab']), ['ab'], 'each once');
  assert.deepEqual(plan(['abc'], ''), []);
});

test('planFrames() parts chunks that other contents have from those that they do not have', () => {
  assert.deepEqual(plan(['abcdef', 'abxyef']), ['ab', 'cd', 'ef', 'xy']);
  assert.deepEqual(plan(['abcd', 'abcd']), ['abcd'], 'all contents have all of it');
  assert.deepEqual(plan(['abcdab']), ['ab', 'cd'], 'also parts that come again in the same content');
});

function sizes(chunks: readonly RecipeChunk[]): number[] {
  const keys = new Set(chunks.map(({ hash }) => chunkKey(hash)));
  return planFrames([recipe(...chunks)], keys).map(({ length }) => length);
}

test('planFrames() fills frames up to their limits of bytes and places', () => {
  const many = Array.from({ length: 70 }, (_, n) => chunk(`many ${n}`));
  assert.deepEqual(sizes(many), [32, 32, 6]);
  const full = Array.from({ length: 5 }, (_, n) => chunk(`full ${n}`, 64 * KIB, 400));
  assert.deepEqual(sizes(full), [2, 2, 1]);
});

test('planFrames() has each wanted chunk of the recipes once, in groups that the contents have as they are', () => {
  const texts = fc.array(fc.string({ unit: fc.constantFrom(...'abcdefgh'.split('')), maxLength: 12 }), {
    maxLength: 5,
  });
  const wanted = fc.string({ unit: fc.constantFrom(...'abcdefghij'.split('')), maxLength: 10 });
  fc.assert(
    fc.property(texts, wanted, (recipes, some) => {
      const groups = plan(recipes, some);
      const known = new Set(recipes.join(''));
      const expected = [...new Set(some)].filter((letter) => known.has(letter)).toSorted();
      assert.deepEqual(groups.join('').split('').toSorted(), expected);
      for (const group of groups) {
        assert.ok(group.length * 64 * KIB <= LARGEST_FRAME_BYTES);
        assert.ok(recipes.some((text) => text.includes(group)));
        const owners = new Set(
          group.split('').map((letter) => recipes.map((text) => +text.includes(letter)).join('')),
        );
        assert.equal(owners.size, 1, `${group} of ${recipes.join(' ')}`);
      }
    }),
    { numRuns: 500 },
  );
});
