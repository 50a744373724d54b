// Whether an upstream is worth asking. After some failures in a row it is left alone for a while, longer each time that
// a probe fails too, so that a dead upstream costs no lookup any time. Pure: whoever uses it brings the clock,
// best one that is never set back.

export interface BreakerState {
  /** In a row. */
  readonly failures: number;
  /** Left alone until then; undefined while it is asked. */
  readonly openUntil: number | undefined;
  readonly pauseMs: number;
}

const FAILURES_TO_OPEN = 5;
const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 300_000;

export const CLOSED_BREAKER: BreakerState = { failures: 0, openUntil: undefined, pauseMs: FIRST_PAUSE_MS };

/** `half-open`: the pause is over, and one probe may find out. */
export function breakerPosition(state: BreakerState, now: number): 'closed' | 'open' | 'half-open' {
  if (state.openUntil === undefined) return 'closed';
  return now < state.openUntil ? 'open' : 'half-open';
}

export function afterSuccess(): BreakerState {
  return CLOSED_BREAKER;
}

/** Failures of requests that were under way when it opened change nothing; a failed probe doubles the pause. */
export function afterFailure(state: BreakerState, now: number): BreakerState {
  const position = breakerPosition(state, now);
  if (position === 'open') return state;
  const failures = state.failures + 1;
  if (position === 'closed' && failures < FAILURES_TO_OPEN) return { ...state, failures };
  const pauseMs = position === 'half-open' ? Math.min(LONGEST_PAUSE_MS, state.pauseMs * 2) : FIRST_PAUSE_MS;
  return { failures, openUntil: now + pauseMs, pauseMs };
}
