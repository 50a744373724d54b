import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DeployState } from '../api/deploy-state.ts';
import { emptyAgentState, type TrialRecord } from './agent-state.ts';
import { afterTrial, judgeTrial, withRetry } from './after-trial.ts';
import { holdInForce } from './controller-link.ts';
import { PollSchedule } from './poll-schedule.ts';

const NOW = new Date('2026-11-21T12:00:00Z');
const RELEASE = { serial: 2, commit: '2'.repeat(40), toplevel: `/nix/store/${'b'.repeat(32)}-x` };
const FAILURE = { toplevel: RELEASE.toplevel, note: 'cache' };
const RECORD: TrialRecord = {
  id: '0'.repeat(26),
  release: RELEASE,
  baseline: [],
  startedAt: NOW.toISOString(),
};

function final(phase: DeployState['phase'], reason = ''): DeployState {
  return {
    version: 1,
    id: RECORD.id,
    phase,
    since: 0,
    toplevel: RELEASE.toplevel,
    previous: '',
    reason,
    detail: 'said',
    activationExit: 0,
    generation: 2,
    healthy: 'yes',
    rebootRequired: false,
  };
}

const TABLE: readonly (readonly [DeployState['phase'], string, string])[] = [
  ['COMMITTED', '', 'applied'],
  ['ROLLED_BACK', 'health-failed', 'quarantine'],
  ['ROLLED_BACK', 'probes-failed', 'quarantine'],
  ['ROLLED_BACK', 'confirm-timeout', 'quarantine'],
  ['ROLLED_BACK', 'rebooted-in-trial', 'quarantine'],
  ['ROLLED_BACK', 'bootloader-failed', 'quarantine'],
  ['ROLLBACK_FAILED', 'activation-failed', 'quarantine'],
  ['REFUSED', 'wrong-host', 'quarantine'],
  ['REFUSED', 'secrets-unreadable', 'quarantine'],
  ['REFUSED', 'lock-held', 'retry'],
  ['REFUSED', 'hook-failed', 'retry'],
  ['REFUSED', 'interrupted', 'retry'],
  ['ROLLED_BACK', 'runner-died', 'retry'],
];

for (const [phase, reason, verdict] of TABLE) {
  test(`judgeTrial() of ${phase} ${reason}: ${verdict}`, () => {
    assert.equal(judgeTrial(final(phase, reason)), verdict);
  });
}

test('afterTrial() of a commit applies the release and forgets what stood in its way', () => {
  const entry = { ...RELEASE, reason: 'x', detail: '', at: NOW.toISOString() };
  const before = {
    ...withRetry(emptyAgentState(NOW), FAILURE, NOW),
    trial: RECORD,
    quarantine: [entry],
    accepted: RELEASE.commit,
  };
  const after = afterTrial(before, RECORD, { final: final('COMMITTED'), failedHooks: [] }, NOW);
  assert.deepEqual(after.applied, { ...RELEASE, at: NOW.toISOString() });
  assert.deepEqual(
    [after.trial, after.retry, after.accepted, after.quarantine],
    [undefined, undefined, undefined, []],
  );
});

test('afterTrial() of a rollback quarantines the toplevel and keeps the applied release', () => {
  const applied = { serial: 1, commit: '1'.repeat(40), toplevel: `/nix/store/${'a'.repeat(32)}-x`, at: '' };
  const after = afterTrial(
    { ...emptyAgentState(NOW), applied, trial: RECORD },
    RECORD,
    { final: final('ROLLED_BACK', 'probes-failed'), failedHooks: [{ name: 'tell', when: 'after', exit: 3 }] },
    NOW,
  );
  assert.equal(after.applied?.serial, 1);
  assert.equal(after.trial, undefined);
  assert.deepEqual(after.quarantine, [
    { ...RELEASE, reason: 'probes-failed', detail: 'said', at: NOW.toISOString() },
  ]);
  assert.equal(after.lastResult?.phase, 'ROLLED_BACK');
  assert.deepEqual(after.lastResult.failedHooks, [{ name: 'tell', when: 'after', exit: 3 }]);
});

test('withRetry() waits longer each time, up to half an hour', () => {
  let state = emptyAgentState(NOW);
  const pauses: number[] = [];
  for (let i = 0; i < 10; i++) {
    state = withRetry(state, FAILURE, NOW);
    pauses.push((Date.parse(state.retry?.notBefore ?? '') - NOW.getTime()) / 1000);
  }
  assert.ok((pauses[0] ?? 0) >= 15 && (pauses[0] ?? 0) <= 30, String(pauses[0]));
  const other = { toplevel: `/nix/store/${'c'.repeat(32)}-x`, note: 'x' };
  assert.equal(withRetry(state, other, NOW).retry?.failures, 1);
  assert.ok((pauses[9] ?? 0) >= 900 && (pauses[9] ?? 0) <= 1800, String(pauses[9]));
});

test('holdInForce() ends with the grace of a silent controller', () => {
  const answeredAt = NOW.toISOString();
  const controller = { ok: false, note: '', at: answeredAt, hold: 'soaking', answeredAt };
  const state = { ...emptyAgentState(NOW), controller };
  assert.equal(holdInForce(state, 60, new Date(NOW.getTime() + 60_000)), 'soaking');
  assert.equal(holdInForce(state, 60, new Date(NOW.getTime() + 60_001)), undefined);
  assert.equal(holdInForce(emptyAgentState(NOW), 60, NOW), undefined);
});

test('PollSchedule asks each remote in its own time, a silent one less often', () => {
  const schedule = new PollSchedule([10, 100]);
  assert.ok(schedule.isDue(0) && schedule.isDue(1));
  schedule.asked(0, true, 0);
  schedule.asked(1, true, 0);
  assert.equal(schedule.isDue(0, 9_000), false);
  assert.equal(schedule.isDue(0, 11_000), true);
  assert.equal(schedule.isDue(1, 11_000), false);
  for (let i = 0; i < 20; i++) schedule.asked(0, false, 0);
  assert.equal(schedule.isDue(0, 280_000), false);
  assert.equal(schedule.isDue(0, 320_000), true);
  schedule.wakeAll();
  assert.equal(schedule.pauseMs(0), 0);
});
