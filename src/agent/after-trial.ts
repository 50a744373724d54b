// What a finished trial means for the next polls: applied, quarantined, or to be tried again later. Pure.
import type { HookResult } from '../api/deploy-hooks.ts';
import type { DeployState } from '../api/deploy-state.ts';
import { withoutQuarantine, withQuarantine, type AgentState, type TrialRecord } from './agent-state.ts';

/** How a trial ended, and which of its after-hooks failed. */
export interface EndedTrial {
  readonly final: DeployState;
  readonly failedHooks: readonly HookResult[];
}

export type TrialVerdict = 'applied' | 'quarantine' | 'retry';

/**
 * Reasons that say nothing about the toplevel and may pass by themselves. Everything else disturbed the host's
 * services, or will fail the same way again: it waits for a change or for a person.
 */
const PASSING: ReadonlySet<string> = new Set([
  'cancelled',
  'hook-failed',
  'interrupted',
  'lock-held',
  'not-armed',
  'not-started',
  'rebooted-in-commit',
  'runner-died',
  'toplevel-missing',
]);

/** First pause after a failure that may pass, and the longest one, in ms. */
const FIRST_PAUSE_MS = 30_000;
const LONGEST_PAUSE_MS = 30 * 60_000;

export function judgeTrial(final: DeployState): TrialVerdict {
  if (final.phase === 'COMMITTED') return 'applied';
  return PASSING.has(final.reason) ? 'retry' : 'quarantine';
}

/** The state after the trial `record` ended. */
export function afterTrial(
  state: AgentState,
  record: TrialRecord,
  { final, failedHooks }: EndedTrial,
  now: Date,
): AgentState {
  const { trial: _ended, ...rest } = state;
  const at = now.toISOString();
  const { phase, reason, detail } = final;
  const hooks = failedHooks.length === 0 ? {} : { failedHooks: [...failedHooks] };
  const lastResult = { toplevel: record.release.toplevel, phase, reason, detail, at, ...hooks };
  const ended = { ...rest, lastResult, operation: { name: 'idle' as const, since: at } };
  const verdict = judgeTrial(final);
  if (verdict === 'applied') return withApplied(ended, record.release, now);
  if (verdict === 'retry')
    return withRetry(ended, { toplevel: record.release.toplevel, note: `${reason}: ${detail}` }, now);
  return withQuarantine(ended, { ...record.release, reason, detail, at });
}

/** The state in which this release is what the host runs for good. */
export function withApplied(state: AgentState, release: TrialRecord['release'], now: Date): AgentState {
  const { retry: _over, accepted: _used, ...rest } = withoutQuarantine(state, release.toplevel);
  const mainline = release.testing === true ? {} : { mainline: release };
  return { ...rest, ...mainline, applied: { ...release, at: now.toISOString() } };
}

/** The state after one more failure of this toplevel that may pass by itself: exponential pause with jitter. */
export function withRetry(
  state: AgentState,
  failure: { readonly toplevel: string; readonly note: string },
  now: Date,
): AgentState {
  const before = state.retry?.toplevel === failure.toplevel ? state.retry.failures : 0;
  const bound = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** before);
  const pause = bound / 2 + (Math.random() * bound) / 2;
  const notBefore = new Date(now.getTime() + pause).toISOString();
  return { ...state, retry: { ...failure, failures: before + 1, notBefore } };
}
