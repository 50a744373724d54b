import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep, within } from './deadline.ts';
import { isCode } from './errors.ts';

test('within() names the wait that took too long', async () => {
  await assert.rejects(
    within(5, 'The ground station', () => sleep(5_000, AbortSignal.timeout(50))),
    (error) => isCode(error, 'timeout') && error.message.startsWith('The ground station'),
  );
});

test('within() gives the result of work that ends in time', async () => {
  assert.equal(await within(1_000, 'work', async () => 7), 7);
});

test('sleep() ends early when aborted', async () => {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 5);
  await assert.rejects(sleep(60_000, controller.signal));
});
