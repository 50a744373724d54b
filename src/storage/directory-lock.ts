// One server per data directory. An exclusive SQLite transaction is a lock that the kernel drops when the process
// dies, however it dies, so no stale lock file can remain.
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { SlipwayError } from '../util/errors.ts';

/** Takes the lock or fails at once with `unavailable`; disposing gives it back. */
export function lockDirectory(directory: string): Disposable {
  const lock = new DatabaseSync(join(directory, 'slipway.lock'), { timeout: 0 });
  try {
    lock.exec('begin exclusive');
  } catch (error) {
    lock.close();
    throw new SlipwayError('unavailable', `Another Slipway server uses ${directory}.`, {
      next: 'Stop the other server, or give this one its own data directory.',
      cause: error,
    });
  }
  return { [Symbol.dispose]: () => lock.close() };
}
