import assert from 'node:assert/strict';
import { test } from 'node:test';
import { retry } from './retry.ts';

const quick = { attempts: 3, baseMs: 1, maxMs: 2 };

test('retry() returns the first success', async () => {
  assert.equal(
    await retry(quick, async (attempt) => {
      if (attempt < 3) throw new Error('not yet');
      return attempt;
    }),
    3,
  );
});

test('retry() throws the last failure when the attempts are used up', async () => {
  let calls = 0;
  await assert.rejects(
    retry(quick, async () => {
      throw new Error(`failure ${++calls}`);
    }),
    /failure 3/,
  );
});

test('retry() does not repeat what is not retryable', async () => {
  let calls = 0;
  await assert.rejects(
    retry({ ...quick, retryable: () => false }, async () => {
      calls++;
      throw new Error('final');
    }),
  );
  assert.equal(calls, 1);
});

test('retry() begins no attempt after its time', async () => {
  let calls = 0;
  const policy = { attempts: 1000, baseMs: 20, maxMs: 20, withinMs: 100 };
  await assert.rejects(
    retry(policy, async () => {
      calls++;
      throw new Error('again');
    }),
  );
  assert.ok(calls > 1 && calls <= 11, `${calls}`);
});
