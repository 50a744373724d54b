import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { mapBounded, Semaphore } from './concurrency.ts';

test('mapBounded() keeps the order and never runs more than the limit', async () => {
  let running = 0;
  let most = 0;
  const results = await mapBounded([...Array(20).keys()], 3, async (n) => {
    most = Math.max(most, ++running);
    await setImmediate();
    running--;
    return n * 2;
  });
  assert.deepEqual(
    results,
    [...Array(20).keys()].map((n) => n * 2),
  );
  assert.equal(most, 3);
});

test('mapBounded() rejects with the first failure', async () => {
  await assert.rejects(
    mapBounded([1, 2, 3], 2, async (n) => {
      await setImmediate();
      if (n === 2) throw new Error('two');
    }),
    /two/,
  );
});

test('Semaphore lets waiters in, first come first served, also after a failure', async () => {
  const semaphore = new Semaphore(1);
  const order: number[] = [];
  const runs = [1, 2, 3].map((n) =>
    semaphore.run(async () => {
      await setImmediate();
      order.push(n);
      if (n === 1) throw new Error('one');
    }),
  );
  await assert.rejects(runs[0] ?? Promise.resolve(), /one/);
  await Promise.all(runs.slice(1));
  assert.deepEqual(order, [1, 2, 3]);
});
