import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { decideRun, type RunFacts } from './run-decision.ts';

const A = 'a'.repeat(40);
const B = 'b'.repeat(40);
const quiet: RunFacts = {
  trigger: 'poll',
  branch: 'main',
  commit: A,
  watchedBranch: 'main',
  releaseBranch: 'release',
  queued: undefined,
  running: undefined,
  last: undefined,
  runsOfCommit: 0,
  interruptedOfCommit: 0,
};

test('decideRun() starts the first commit that it sees', () => {
  assert.deepEqual(decideRun(quiet), { kind: 'start', reason: 'main moved' });
  assert.deepEqual(decideRun({ ...quiet, trigger: 'webhook' }), { kind: 'start', reason: 'push to main' });
});

test('decideRun() ignores other branches and its own', () => {
  assert.match(reasonFor('idea'), /Only main is watched/);
  assert.match(reasonFor('release'), /written by Slipway itself/);
  assert.match(reasonFor('release-manifest'), /written by Slipway itself/);
});

test('decideRun() lets a waiting run take the newer commit', () => {
  const decision = decideRun({ ...quiet, queued: { id: 'r1', commit: B } });
  assert.equal(decision.kind === 'coalesce' && decision.into, 'r1');
});

test('decideRun() queues behind the run that is under way', () => {
  assert.equal(decideRun({ ...quiet, running: { id: 'r1', commit: B } }).kind, 'start');
  assert.equal(decideRun({ ...quiet, running: { id: 'r1', commit: A } }).kind, 'ignore');
});

test('decideRun() does not believe a webhook about a commit that was run before', () => {
  const facts: RunFacts = { ...quiet, trigger: 'webhook', runsOfCommit: 1 };
  assert.equal(decideRun(facts).kind, 'look');
  assert.equal(decideRun({ ...facts, queued: { id: 'r2', commit: B } }).kind, 'look');
});

test('decideRun() runs a commit again when the branch went back to it', () => {
  const facts: RunFacts = { ...quiet, runsOfCommit: 1, last: { id: 'r2', commit: B, interrupted: false } };
  assert.equal(decideRun(facts).kind, 'start');
});

test('decideRun() does not repeat the last commit by itself, whatever its outcome', () => {
  const last = { id: 'r1', commit: A, interrupted: false };
  assert.match(decideRun({ ...quiet, last, runsOfCommit: 1 }).reason, /has not moved since run r1/);
  assert.equal(decideRun({ ...quiet, last, runsOfCommit: 1, trigger: 'manual' }).kind, 'start');
});

test('decideRun() starts an interrupted run once more, then leaves it to a person', () => {
  const last = { id: 'r1', commit: A, interrupted: true };
  const facts: RunFacts = { ...quiet, last, runsOfCommit: 1, interruptedOfCommit: 1 };
  assert.equal(decideRun(facts).kind, 'start');
  assert.match(decideRun({ ...facts, interruptedOfCommit: 2 }).reason, /start it by hand/);
});

test('decideRun() gives a reason always, and only ever joins the run that waits', () => {
  const known = fc.option(fc.record({ id: fc.constant('r1'), commit: fc.constantFrom(A, B) }), {
    nil: undefined,
  });
  const facts = fc.record({
    trigger: fc.constantFrom('webhook' as const, 'poll' as const, 'manual' as const),
    branch: fc.constantFrom('main', 'idea', 'release'),
    commit: fc.constantFrom(A, B),
    watchedBranch: fc.constant('main'),
    releaseBranch: fc.constant('release'),
    queued: known,
    running: known,
    last: fc.option(
      fc.record({ id: fc.constant('r0'), commit: fc.constantFrom(A, B), interrupted: fc.boolean() }),
      { nil: undefined },
    ),
    runsOfCommit: fc.nat(3),
    interruptedOfCommit: fc.nat(3),
  });
  fc.assert(
    fc.property(facts, (given) => {
      const decision = decideRun(given);
      assert.notEqual(decision.reason, '');
      if (decision.kind === 'coalesce') assert.notEqual(given.queued?.commit, given.commit);
      if (decision.kind === 'start') assert.equal(given.queued, undefined);
      if (given.branch !== 'main') assert.equal(decision.kind, 'ignore');
    }),
  );
});

function reasonFor(branch: string): string {
  return decideRun({ ...quiet, branch }).reason;
}
