import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseStorePath } from '../nix/store-path.ts';
import { SlipwayError, type ErrorCode } from '../util/errors.ts';
import { drainQueue, type DrainEvent } from './drain-queue.ts';
import { PushQueue } from './push-queue.ts';
import { pathOfLock, watchStore } from './store-watcher.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-queue-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const path = (name: string): string => `/nix/store/${'0'.repeat(32)}-${name}`;

interface Scene {
  readonly queue: PushQueue;
  readonly pushed: string[][];
  readonly events: string[];
  readonly drain: (fail?: (paths: readonly string[]) => ErrorCode | undefined) => Promise<void>;
}

async function scene(name: string): Promise<Scene> {
  const queue = new PushQueue(join(folder, name));
  await queue.open();
  const pushed: string[][] = [];
  const events: string[] = [];
  return {
    queue,
    pushed,
    events,
    drain: async (fail) =>
      await drainQueue({
        queue,
        push: async (paths) => {
          const code = fail?.(paths);
          if (code !== undefined) throw new SlipwayError(code, `failed with ${code}`);
          pushed.push(await Promise.resolve([...paths]));
        },
        findInvalid: async (paths) =>
          await Promise.resolve(new Set(paths.filter((one) => one.includes('gone')))),
        findOutputs: async (drv) => await Promise.resolve([parseStorePath(drv.replace('.drv', '-out'))]),
        report: (event: DrainEvent) =>
          events.push(event.kind === 'refused' ? `refused ${event.final}` : event.kind),
        signal: AbortSignal.timeout(10_000),
        once: true,
        idleMs: 1,
      }),
  };
}

test('drainQueue() pushes what waits together, each path once, and leaves nothing behind', async () => {
  const { queue, pushed, drain } = await scene('plain');
  await queue.add([path('a'), path('b')]);
  await queue.add([path('b'), path('gone')]);
  writeFileSync(join(queue.folder, 'by-hook'), `${path('c')} ../../etc/passwd ${path('d.drv')}\n`);
  writeFileSync(join(queue.folder, '.new.draft'), path('never'));
  await drain();
  assert.deepEqual(
    pushed.map((paths) => paths.toSorted()),
    [[path('a'), path('b'), path('c'), path('d-out')]],
  );
  assert.deepEqual(readdirSync(queue.folder).toSorted(), ['.new.draft', 'failed']);
});

test('drainQueue() survives outages, and what waits survives the program', async () => {
  const { queue, pushed, events, drain } = await scene('outage');
  await queue.add([path('a')]);
  let down = 3;
  await drain(() => (down-- > 0 ? 'unavailable' : undefined));
  assert.deepEqual(events, ['outage', 'outage', 'outage', 'pushed']);
  assert.deepEqual(pushed, [[path('a')]]);
  await queue.add([path('b')]);
  assert.equal((await new PushQueue(queue.folder).next()).length, 1);
});

test('drainQueue() lets one bad path hold up nothing, and sets it aside in the end', async () => {
  const { queue, pushed, events, drain } = await scene('bad');
  for (const name of ['a', 'bad', 'c']) await queue.add([path(name)]);
  await drain((paths) => (paths.some((one) => one.includes('bad')) ? 'conflict' : undefined));
  assert.deepEqual(pushed.flat().toSorted(), [path('a'), path('c')]);
  assert.equal(events.filter((event) => event === 'refused true').length, 1);
  assert.equal(readdirSync(join(queue.folder, 'failed')).length, 1);
});

test('pathOfLock() knows locks of paths that are worth a push', () => {
  const hash = '0'.repeat(32);
  assert.equal(pathOfLock('/nix/store', `${hash}-hello-1.0.lock`), `/nix/store/${hash}-hello-1.0`);
  for (const name of [
    `${hash}-x.drv.lock`,
    `${hash}-source.lock`,
    `${hash}-x`,
    'x.lock',
    '../x.lock',
    '.lock',
  ])
    assert.equal(pathOfLock('/nix/store', name), undefined, name);
});

test('watchStore() tells a path when its lock goes, not when it comes', async () => {
  const store = mkdtempSync(join(folder, 'store-'));
  const { promise, resolve } = Promise.withResolvers<string>();
  using watcher = watchStore(store, resolve);
  watcher.failed.catch(() => undefined);
  const lock = join(store, `${'1'.repeat(32)}-made.lock`);
  writeFileSync(lock, '');
  await new Promise((go) => setTimeout(go, 50));
  rmSync(lock);
  assert.equal(await promise, lock.slice(0, -'.lock'.length));
});
