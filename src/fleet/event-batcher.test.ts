import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunEvent } from '../api/run-events.ts';
import { EventBatcher } from './event-batcher.ts';

function log(line: string): RunEvent {
  return { kind: 'log', at: '2026-11-21T08:00:00.000Z', stage: 'build', line };
}

function linesOf(batches: readonly (readonly RunEvent[])[]): string[] {
  return batches.flat().flatMap((event) => (event.kind === 'log' ? [event.line] : []));
}

test('EventBatcher stores everything in order, in few batches, one at a time', async () => {
  const batches: RunEvent[][] = [];
  let under = 0;
  const batcher = new EventBatcher({
    store: async (events) => {
      assert.equal(under++, 0);
      await new Promise((resolve) => setTimeout(resolve, 1));
      batches.push([...events]);
      under--;
    },
    onError: () => assert.fail(),
  });
  const lines = Array.from({ length: 1_200 }, (_, index) => String(index));
  for (const line of lines) batcher.add(log(line));
  await batcher[Symbol.asyncDispose]();
  batcher.add(log('later'));
  await batcher[Symbol.asyncDispose]();
  assert.deepEqual(linesOf(batches), [...lines, 'later']);
  assert.ok(batches.length <= 4, String(batches.length));
});

test('EventBatcher bounds what waits, says so, and never leaves out anything but log lines', async () => {
  const batches: RunEvent[][] = [];
  const batcher = new EventBatcher({
    store: (events) => Promise.resolve(void batches.push([...events])),
    onError: () => assert.fail(),
  });
  for (let index = 0; index < 20_010; index++) batcher.add(log('x'));
  batcher.add({ kind: 'stage-started', at: '2026-11-21T08:00:00.000Z', stage: 'deploy' });
  await batcher[Symbol.asyncDispose]();
  assert.ok(batches.flat().some((event) => event.kind === 'stage-started'));
  assert.ok(linesOf(batches).includes('… 10 log lines came too fast and were left out.'));
});

test('EventBatcher tells once that storing failed', async () => {
  const errors: unknown[] = [];
  const batcher = new EventBatcher({
    store: () => Promise.reject(new Error('disk full')),
    onError: (error) => errors.push(error),
  });
  batcher.add(log('x'));
  await batcher[Symbol.asyncDispose]();
  batcher.add(log('y'));
  await batcher[Symbol.asyncDispose]();
  assert.equal(errors.length, 1);
});
