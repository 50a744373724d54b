import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  afterFailure,
  afterSuccess,
  breakerPosition,
  CLOSED_BREAKER,
  type BreakerState,
} from './circuit-breaker.ts';

function failed(state: BreakerState, times: number, now: number): BreakerState {
  return Array.from({ length: times }).reduce<BreakerState>((before) => afterFailure(before, now), state);
}

test('afterFailure() opens after five failures in a row, for two seconds', () => {
  assert.equal(breakerPosition(failed(CLOSED_BREAKER, 4, 0), 0), 'closed');
  const open = failed(CLOSED_BREAKER, 5, 1_000);
  assert.equal(breakerPosition(open, 2_999), 'open');
  assert.equal(breakerPosition(open, 3_000), 'half-open');
});

test('afterFailure() changes nothing while it is open: requests from before end late', () => {
  const open = failed(CLOSED_BREAKER, 5, 0);
  assert.deepEqual(failed(open, 20, 100), open);
});

test('a failed probe doubles the pause up to five minutes, a success forgets everything', () => {
  let state = failed(CLOSED_BREAKER, 5, 0);
  for (let probes = 0; probes < 12; probes++) state = afterFailure(state, state.openUntil ?? 0);
  assert.equal(state.pauseMs, 300_000);
  assert.deepEqual(afterSuccess(), CLOSED_BREAKER);
});
