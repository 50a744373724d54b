import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { Chunker, MAX_CHUNK, MIN_CHUNK, TARGET_CHUNK } from './chunker.ts';

/** Reproducible bytes that do not compress or repeat. */
function noise(length: number, seed: string): Buffer {
  const blocks: Buffer[] = [];
  for (let n = 0; n * 32 < length; n++) blocks.push(createHash('sha256').update(`${seed} ${n}`).digest());
  return Buffer.concat(blocks).subarray(0, length);
}

function chunksOf(bytes: Buffer, pieces: readonly number[] = []): Buffer[] {
  const chunker = new Chunker();
  const chunks: Buffer[] = [];
  let at = 0;
  for (const piece of pieces) {
    chunker.push(bytes.subarray(at, at + piece), (chunk) => chunks.push(chunk));
    at = Math.min(bytes.length, at + piece);
  }
  chunker.push(bytes.subarray(at), (chunk) => chunks.push(chunk));
  chunker.end((chunk) => chunks.push(chunk));
  return chunks;
}

const SAMPLE = noise(6 * 1024 * 1024, 'sample');

test('Chunker chunks concatenate to the input and keep within their sizes', () => {
  fc.assert(
    fc.property(fc.nat(SAMPLE.length), fc.nat(SAMPLE.length), (a, b) => {
      const bytes = SAMPLE.subarray(Math.min(a, b), Math.max(a, b));
      const chunks = chunksOf(bytes);
      assert.ok(Buffer.concat(chunks).equals(bytes));
      chunks
        .slice(0, -1)
        .forEach((chunk) => assert.ok(chunk.length > MIN_CHUNK && chunk.length <= MAX_CHUNK));
    }),
    { numRuns: 20 },
  );
});

test('Chunker cuts at the same places however the input arrives', () => {
  const whole = chunksOf(SAMPLE).map((chunk) => chunk.length);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 400_000 }), { maxLength: 30 }), (pieces) => {
      assert.deepEqual(
        chunksOf(SAMPLE, pieces).map((chunk) => chunk.length),
        whole,
      );
    }),
    { numRuns: 20 },
  );
});

test('Chunker cuts are local: an insertion changes only the chunks around it', () => {
  const before = new Set(chunksOf(SAMPLE).map(String));
  const edited = Buffer.concat([
    SAMPLE.subarray(0, 2_000_000),
    Buffer.from('inserted'),
    SAMPLE.subarray(2_000_000),
  ]);
  const fresh = chunksOf(edited).filter((chunk) => !before.has(String(chunk)));
  assert.ok(fresh.length <= 4, `${fresh.length} new chunks`);
});

test('Chunker cuts random bytes near the target size and constant bytes at the largest', () => {
  const mean = SAMPLE.length / chunksOf(SAMPLE).length;
  assert.ok(mean > TARGET_CHUNK * 0.7 && mean < TARGET_CHUNK * 1.5, `mean ${mean}`);
  assert.deepEqual(
    chunksOf(Buffer.alloc(MAX_CHUNK * 2 + 5)).map((chunk) => chunk.length),
    [MAX_CHUNK, MAX_CHUNK, 5],
  );
});

test('Chunker cuts never change: the first lengths of a known stream are frozen', () => {
  assert.deepEqual(
    chunksOf(SAMPLE)
      .slice(0, 6)
      .map((chunk) => chunk.length),
    [120_538, 78_963, 82_768, 78_511, 43_999, 78_365],
  );
});
