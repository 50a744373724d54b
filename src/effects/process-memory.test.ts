import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exec } from './exec.ts';
import { residentBytes, watchMemory } from './process-memory.ts';

test('residentBytes() counts a process with its children, and 0 for one that is gone', async () => {
  assert.ok((await residentBytes(process.pid)) > 10_000_000);
  assert.equal(await residentBytes(2 ** 22 + 1), 0);
});

test('watchMemory() speaks up once when a child outgrows its limit', async () => {
  const stop = new AbortController();
  const seen: number[] = [];
  let watch: Disposable | undefined;
  const hold = [process.execPath, '-e', 'globalThis.x = Buffer.alloc(9e7, 1); setTimeout(() => {}, 9000)'];
  await exec(hold, {
    signal: stop.signal,
    onStart: (pid) => {
      watch = watchMemory(pid, 80_000_000, (bytes) => {
        seen.push(bytes);
        stop.abort();
      });
    },
  }).catch(() => undefined);
  watch?.[Symbol.dispose]();
  assert.equal(seen.length, 1);
  assert.ok((seen[0] ?? 0) > 80_000_000);
});
