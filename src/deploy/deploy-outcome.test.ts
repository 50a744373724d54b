import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deployState, type DeployState } from '../api/deploy-state.ts';
import { exitCode, SlipwayError } from '../util/errors.ts';
import { deployError, hostPhaseOf, outcomeOf } from './deploy-outcome.ts';

function state(more: Partial<DeployState>): DeployState {
  return deployState.parse({
    version: 1,
    id: '01m7ykn0sgrgqshv9ax5p6wcgz',
    phase: 'COMMITTED',
    since: 1,
    toplevel: '/nix/store/x',
    previous: '/nix/store/y',
    reason: '',
    detail: '',
    activationExit: 0,
    generation: 2,
    healthy: 'yes',
    ...more,
  });
}

function exit(more: Partial<DeployState>): number {
  const error = deployError(outcomeOf('web1', state(more)));
  return error === undefined ? 0 : exitCode(error);
}

test('outcomeOf() and deployError() map every final phase to its exit code', () => {
  assert.equal(exit({}), 0);
  assert.equal(exit({ healthy: 'unknown' }), 0);
  assert.equal(exit({ healthy: 'no' }), 15);
  assert.equal(exit({ phase: 'ROLLED_BACK' }), 10);
  assert.equal(exit({ phase: 'ROLLED_BACK', healthy: 'no' }), 11);
  assert.equal(exit({ phase: 'ROLLBACK_FAILED' }), 12);
  assert.equal(exit({ phase: 'REFUSED', reason: 'lock-held' }), 13);
});

test('outcomeOf() never takes a phase that still moves for an end', () => {
  assert.throws(() => outcomeOf('web1', state({ phase: 'TRIAL' })), SlipwayError);
});

test('deployError() names the cause and the next step', () => {
  const error = deployError(
    outcomeOf(
      'web1',
      state({ phase: 'ROLLED_BACK', reason: 'health-failed', detail: 'Newly failed: a.service.' }),
    ),
  );
  assert.match(error?.message ?? '', /web1 rolled back \(health-failed\)\. Newly failed: a\.service\./);
  assert.match(error?.next ?? '', /activate\.log/);
});

test('hostPhaseOf() tells a quarantined system from any other refusal', () => {
  assert.equal(hostPhaseOf(state({ phase: 'REFUSED', reason: 'quarantined' })), 'quarantined');
  assert.equal(hostPhaseOf(state({ phase: 'REFUSED', reason: 'wrong-host' })), 'refused');
  assert.equal(hostPhaseOf(state({ phase: 'AWAIT_CONFIRM' })), 'confirming');
});
