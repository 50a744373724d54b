import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { BundleOrder } from './bundle-order.ts';
import { NarRestorer } from './nar-restorer.ts';
import { UploadSessions } from './upload-sessions.ts';

async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  return await Promise.race([promise.then(() => true), setImmediate(false)]);
}

test('a bundle waits for the one before it, of the same push alone', async () => {
  const order = new BundleOrder();
  const first = order.join('push');
  const second = order.join('push');
  assert.equal(await isSettled(order.join('other').beforeEnded()), true);
  assert.equal(await isSettled(order.join(undefined).beforeEnded()), true);
  assert.equal(await isSettled(second.beforeTaken()), false);
  first.taken();
  assert.equal(await isSettled(second.beforeTaken()), true);
  assert.equal(await isSettled(second.beforeEnded()), false);
  first.committed();
  first[Symbol.dispose]();
  assert.equal(await isSettled(second.beforeEnded()), true);
  assert.deepEqual([first.hasFailed, second.hasFailed], [false, false]);
});

test('a bundle that is not committed has failed, and nobody waits for what has ended', async () => {
  const order = new BundleOrder();
  const failed = order.join('push');
  const second = order.join('push');
  failed[Symbol.dispose]();
  assert.equal(failed.hasFailed, true);
  assert.equal(await isSettled(second.beforeTaken()), true);
  second[Symbol.dispose]();
  assert.equal(await isSettled(order.join('push').beforeEnded()), true);
});

test('what a failed bundle brought of a NAR is not gone on with', () => {
  const owner = { cacheId: 1, writer: 'writer' };
  const order = new BundleOrder();
  const sessions = new UploadSessions();
  for (const isCommitted of [true, false]) {
    const bundle = order.join('push');
    const restorer = new NarRestorer(Buffer.alloc(32, 7), 1000);
    sessions.keep(owner, { restorer, bundle });
    if (isCommitted) bundle.committed();
    bundle[Symbol.dispose]();
    assert.equal(sessions.take(owner, restorer.hash, 0)?.restorer, isCommitted ? restorer : undefined);
  }
});
