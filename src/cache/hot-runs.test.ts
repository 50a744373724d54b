import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ContentLayout } from './content-layout.ts';
import { HotRuns } from './hot-runs.ts';
import type { Run } from './piece-runs.ts';

const MIB = 1024 * 1024;

function layout(): ContentLayout {
  const none = new Float64Array(1);
  return { contentId: 1, hash: Buffer.alloc(32), pieces: [], storedOffsets: none, rawOffsets: none };
}

function runOf(index: number): Run {
  return { blobKey: 'pack', offset: 0, length: MIB, index, count: 1, whole: true };
}

/** Runs of 1 MiB each. */
class FullRuns {
  clock = 0;
  readonly hot = new HotRuns(() => this.clock);

  read(of: ContentLayout, runs: number): number {
    let found = 0;
    for (let index = 0; index < runs; index++) {
      const run = runOf(index);
      if (this.hot.find(of, run) !== undefined) found++;
      else if (this.hot.isWorthKeeping(of, run)) this.hot.keep(of, run, Buffer.alloc(MIB));
    }
    return found;
  }
}

test('what is read again comes from memory; one pass keeps nothing', () => {
  const full = new FullRuns();
  const small = layout();
  assert.deepEqual(
    [1, 2, 3].map(() => full.read(small, 20)),
    [0, 0, 20],
  );
});

test('of more than there is room for, a part stays in memory', () => {
  const full = new FullRuns();
  const large = layout();
  const found = [1, 2, 3, 4].map(() => full.read(large, 50));
  assert.deepEqual(found, [0, 0, 32, 32]);
});

test('what is not used any more gives its place to what is', () => {
  const full = new FullRuns();
  const [old, fresh] = [layout(), layout()];
  for (let n = 0; n < 3; n++) full.read(old, 32);
  for (let n = 0; n < 3; n++) assert.equal(full.read(fresh, 10), 0, 'the old ones are in use');
  full.clock = 60_000;
  full.read(fresh, 10);
  assert.equal(full.read(fresh, 10), 10);
});
