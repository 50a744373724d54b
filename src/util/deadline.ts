// Deadlines: every wait in Slipway is bounded by an AbortSignal made here.
import { SlipwayError } from './errors.ts';

/** Node's timers fire at once above this (a signed 32-bit number of ms, 24.8 days). */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** A signal that fires after `ms`, or earlier with any of the given signals. */
export function deadline(ms: number, ...parents: readonly (AbortSignal | undefined)[]): AbortSignal {
  const own = AbortSignal.timeout(Math.min(Math.ceil(ms), LONGEST_TIMER_MS));
  const given = parents.filter((signal) => signal !== undefined);
  return given.length === 0 ? own : AbortSignal.any([own, ...given]);
}

/** Rejects with `timeout` when the work takes longer than `ms`; `what` names the wait for the reader. */
export async function within<T>(
  ms: number,
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const signal = deadline(ms);
  return await new Promise<T>((resolve, reject) => {
    const expire = (): void =>
      reject(new SlipwayError('timeout', `${what} took longer than ${Math.round(ms / 1000)} s.`));
    signal.addEventListener('abort', expire, { once: true });
    work(signal)
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', expire));
  });
}

/** Sleeps `ms` milliseconds; an abort ends the sleep early by rejecting with the signal's reason. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const wake = (): void => {
      clearTimeout(timer);
      reject(signal?.reason instanceof Error ? signal.reason : new Error('aborted'));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', wake);
      resolve();
    }, ms);
    signal?.addEventListener('abort', wake, { once: true });
  });
}
