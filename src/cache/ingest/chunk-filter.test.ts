import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { ChunkFilter } from './chunk-filter.ts';

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

test('ChunkFilter knows all that was added and little else', () => {
  const filter = new ChunkFilter(20_000);
  for (let n = 0; n < 20_000; n++) filter.add(hash(`used ${n}`));
  for (let n = 0; n < 20_000; n++) assert.ok(filter.has(hash(`used ${n}`)));
  let wrong = 0;
  for (let n = 0; n < 20_000; n++) if (filter.has(hash(`other ${n}`))) wrong++;
  assert.ok(wrong < 60, `${wrong} of 20,000`); // 12 expected
});
