// Retry with exponential backoff and full jitter, for what may pass by itself.
import { sleep } from './deadline.ts';

export interface RetryPolicy {
  readonly attempts: number;
  /** Upper bound of the first pause in ms; doubles with each attempt. */
  readonly baseMs: number;
  readonly maxMs: number;
  /** No attempt begins once so many ms have passed since the first. Default: no such limit. */
  readonly withinMs?: number;
  readonly signal?: AbortSignal;
  /** Whether this failure may pass by itself. Default: everything may. */
  readonly retryable?: (error: unknown) => boolean;
}

/** Calls `work` until it succeeds, the failure is not retryable, or the attempts are used up. */
export async function retry<T>(policy: RetryPolicy, work: (attempt: number) => Promise<T>): Promise<T> {
  const until = performance.now() + (policy.withinMs ?? Infinity);
  for (let attempt = 1; ; attempt++) {
    try {
      return await work(attempt);
    } catch (error) {
      const last = attempt >= policy.attempts || policy.retryable?.(error) === false;
      if (last || policy.signal?.aborted === true) throw error;
      const pause = pauseFor(policy, attempt);
      if (performance.now() + pause > until) throw error;
      await sleep(pause, policy.signal);
    }
  }
}

function pauseFor(policy: RetryPolicy, attempt: number): number {
  const bound = Math.min(policy.maxMs, policy.baseMs * 2 ** (attempt - 1));
  return bound / 2 + (Math.random() * bound) / 2;
}
