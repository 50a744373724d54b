import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { lockForRun } from './run-lock.ts';

test('lockForRun() lets one in, tells the other once that it waits, and gives up in the end', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-lock-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  let waits = 0;
  const options = { timeoutMs: 300, signal: AbortSignal.timeout(10_000), onWait: () => waits++ };
  const first = await lockForRun(folder, options);
  await assert.rejects(lockForRun(folder, options), (error) => isCode(error, 'conflict'));
  assert.equal(waits, 1);
  first[Symbol.dispose]();
  const second = await lockForRun(folder, options);
  second[Symbol.dispose]();
});
