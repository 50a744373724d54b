import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WaitingBodies } from './waiting-bodies.ts';

test('in a crowd, those that have waited too long make room; alone, nobody does', async () => {
  const bodies = new WaitingBodies({ crowd: 2, patienceMs: 100 });
  const cut: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const wait = (n: number, since: number): Promise<void> =>
    bodies.during({ destroy: () => cut.push(n) }, promise, since);
  const waiting = [wait(1, 0), wait(2, 50)];
  bodies.makeRoom(10_000);
  assert.deepEqual(cut, [], 'two are no crowd');
  waiting.push(wait(3, 120));
  bodies.makeRoom(160); // the third has waited for 40 ms, the second for 110
  assert.deepEqual(cut, [1, 2]);
  bodies.makeRoom(10_000);
  assert.deepEqual(cut, [1, 2]);
  resolve();
  await Promise.all(waiting);
});
