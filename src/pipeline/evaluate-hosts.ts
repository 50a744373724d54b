// Evaluates hosts side by side, each in a process of its own that is bounded in time and memory, so that one broken
// or huge host never takes the others along. A host that outgrew its share is tried once more, alone.
import { freemem, totalmem } from 'node:os';
import { evaluateNix, type Nix } from '../effects/nix-cli.ts';
import { mapBounded } from '../util/concurrency.ts';
import { asSlipwayError, isCode, type SlipwayError } from '../util/errors.ts';

export interface EvaluationLimits {
  /** Evaluations at a time. */
  readonly jobs: number;
  /** Resident bytes for all evaluations together. */
  readonly memory: number;
  /** Milliseconds for one host. */
  readonly timeoutMs: number;
}

export type HostResult<T> =
  | { readonly host: string; readonly ok: true; readonly value: T; readonly ms: number }
  | { readonly host: string; readonly ok: false; readonly error: SlipwayError; readonly ms: number };

export interface HostWork<T> {
  /** The host's Nix expression. */
  readonly expression: (host: string) => string;
  readonly parse: (host: string, value: unknown) => T;
  readonly onStart: (host: string) => void;
  readonly onResult: (result: HostResult<T>) => void;
  readonly limits: EvaluationLimits;
  readonly signal: AbortSignal;
}

/** Two thirds of what is free now; a quarter of the machine when hardly anything is. */
export function defaultEvaluationLimits(): EvaluationLimits {
  return { jobs: 2, memory: Math.max(freemem() * 0.66, totalmem() / 4), timeoutMs: 600_000 };
}

/** One result a host, in order. Throws only when cancelled. */
export async function evaluateHosts<T>(
  nix: Nix,
  hosts: readonly string[],
  work: HostWork<T>,
): Promise<HostResult<T>[]> {
  const { jobs, memory } = work.limits;
  const share = memory / Math.min(jobs, Math.max(hosts.length, 1));
  const first = await mapBounded(hosts, jobs, async (host) => {
    work.onStart(host);
    const result = await evaluateHost(nix, host, share, work);
    if (!outgrew(result, share, memory)) work.onResult(result);
    return result;
  });
  const results: HostResult<T>[] = [];
  for (const result of first) {
    if (!outgrew(result, share, memory)) results.push(result);
    else {
      const alone = await evaluateHost(nix, result.host, memory, work);
      work.onResult(alone);
      results.push(alone);
    }
  }
  return results;
}

function outgrew<T>(result: HostResult<T>, share: number, all: number): boolean {
  return !result.ok && share < all && isCode(result.error, 'too_large');
}

async function evaluateHost<T>(
  nix: Nix,
  host: string,
  memoryLimit: number,
  work: HostWork<T>,
): Promise<HostResult<T>> {
  const started = performance.now();
  const { timeoutMs } = work.limits;
  try {
    const options = { signal: work.signal, timeoutMs, memoryLimit };
    const value = work.parse(host, await evaluateNix(nix, work.expression(host), options));
    return { host, ok: true, value, ms: performance.now() - started };
  } catch (error) {
    work.signal.throwIfAborted();
    return { host, ok: false, error: asSlipwayError(error), ms: performance.now() - started };
  }
}
