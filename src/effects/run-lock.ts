// One pipeline run at a time for each state folder. An exclusive SQLite transaction is a lock that the kernel drops
// when the process dies, however it dies, so no stale lock file can remain.
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { sleep } from '../util/deadline.ts';
import { SlipwayError } from '../util/errors.ts';

export interface RunLockOptions {
  /** Longest wait for the run before, in ms. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Called once when there is something to wait for. */
  readonly onWait: () => void;
}

const POLL_MS = 250;

/** Takes the lock of `folder`, waiting for its holder; disposing gives it back. */
export async function lockForRun(folder: string, options: RunLockOptions): Promise<Disposable> {
  const end = performance.now() + options.timeoutMs;
  for (let waited = false; ; waited = true) {
    const lock = tryLock(folder);
    if (lock !== undefined) return lock;
    if (performance.now() >= end) throw stillBusy(folder);
    if (!waited) options.onWait();
    await sleep(POLL_MS, options.signal);
  }
}

function tryLock(folder: string): Disposable | undefined {
  const lock = new DatabaseSync(join(folder, 'run.lock'), { timeout: 0 });
  try {
    lock.exec('begin exclusive');
    return { [Symbol.dispose]: () => lock.close() };
  } catch (error) {
    lock.close();
    if (error instanceof Error && /locked|busy/i.test(error.message)) return undefined;
    throw error;
  }
}

function stillBusy(folder: string): SlipwayError {
  return new SlipwayError('conflict', `Another run is still at work in ${folder}.`, {
    next: 'Wait for it to end, or give this run a state folder of its own (--state-dir).',
  });
}
