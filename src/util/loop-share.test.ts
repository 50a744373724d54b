import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { LoopShare } from './loop-share.ts';

function busyFor(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

test('many who work long leave the loop to others after a moment, and each gets on', async () => {
  const share = new LoopShare();
  const steps = Array.from({ length: 8 }, () => 0);
  const work = steps.map(async (_, n) => {
    for (let step = 0; step < 20; step++) {
      await share.next();
      busyFor(2);
      steps[n] = step + 1;
    }
  });
  const done = Promise.all(work).then(() => true);
  const pauses: number[] = [];
  for (let isDone = false; !isDone;) {
    const began = performance.now();
    isDone = await Promise.race([done, setImmediate(false)]);
    pauses.push(performance.now() - began);
    if (pauses.length === 60) assert.ok(Math.max(...steps) - Math.min(...steps) <= 2, steps.join(' '));
  }
  assert.ok(pauses.length > 100, `the loop was free ${pauses.length} times`); // without it, 20 times
  const median = pauses.toSorted((a, b) => a - b)[pauses.length >> 1] ?? 0;
  assert.ok(median < 12, `${median} ms each`); // without it, 16
});
