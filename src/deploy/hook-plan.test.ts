import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fleetHooks, hostHooks } from '../api/deploy-hooks.ts';
import type { DeployState } from '../api/deploy-state.ts';
import { failedOnHost, formatHooks, joinHooks, longestHooks } from './hook-plan.ts';

const own = hostHooks.parse({
  before: [{ name: 'backup', command: 'pg_dump  x | zstd', timeout: 600 }],
  after: [
    { name: 'tell', command: 'true', only: 'failed' },
    { name: 'here', command: 'true', on: 'controller' },
  ],
});
const fleet = fleetHooks.parse({
  before: [
    { name: 'rollout', command: 'true' },
    { name: 'each', command: 'true', on: 'host' },
  ],
  after: [{ name: 'last', command: 'true', on: 'host' }],
});
const state = { phase: 'ROLLED_BACK', reason: 'health-failed' } as DeployState;

test('formatHooks() writes the hooks of the host, one a line, with the command as it is', () => {
  assert.equal(formatHooks(own), 'before 600 always backup pg_dump  x | zstd\nafter 300 failed tell true\n');
});

test("joinHooks() puts the fleet's hooks for each host around the host's own, and leaves out those of a rollout", () => {
  const { before, after } = joinHooks(fleet, own);
  assert.deepEqual(
    before.map(({ name }) => name),
    ['each', 'backup'],
  );
  assert.deepEqual(
    after.map(({ name }) => name),
    ['tell', 'here', 'last'],
  );
});

test('longestHooks() counts the hooks on the host', () => {
  assert.equal(longestHooks(own), 600 + 300 + 20);
});

test('failedOnHost() names what failed and what nothing is known of', () => {
  assert.deepEqual(failedOnHost(own, state, []), [{ name: 'tell', when: 'after', exit: -1 }]);
  assert.deepEqual(failedOnHost(own, state, [{ name: 'tell', when: 'after', exit: 0 }]), []);
  assert.deepEqual(failedOnHost(own, { ...state, phase: 'COMMITTED' }, []), []);
  assert.deepEqual(failedOnHost(own, { ...state, phase: 'REFUSED', reason: 'wrong-host' }, []), []);
});

test('hostHooks refuses a command of several lines and a name with a space', () => {
  assert.equal(hostHooks.safeParse({ before: [{ name: 'a', command: 'x\ny' }] }).success, false);
  assert.equal(hostHooks.safeParse({ before: [{ name: 'a b', command: 'x' }] }).success, false);
});
