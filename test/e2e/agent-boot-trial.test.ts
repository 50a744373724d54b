// The agent on a host with a boot loader: a release with another kernel is booted on trial. The agent that staged it dies
// with the old system; the one that starts with the new system answers for it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { AgentScene } from './agent-scene.ts';
import { giveBootLoader } from './boot-scene.ts';

const BOOTS_MS = 90_000;

let scene: AgentScene;
let first: string;

before(async () => {
  scene = await AgentScene.open({ controller: 'absent' });
  first = (await scene.host.systems()).current;
  await giveBootLoader(scene.host, first);
});

after(async () => {
  await scene[Symbol.asyncDispose]();
});

test('a release with another kernel waits for a reboot where nobody allowed one', async () => {
  const next = await scene.build({ version: '2.0.0', kernel: 'two' });
  const commit = await scene.release(next, { host: { reboot: 'never' } });
  const state = await scene.until('refused', ({ lastResult }) => lastResult?.toplevel === next);
  assert.match(state.lastResult?.detail ?? '', /reboot/);
  assert.notEqual(state.applied?.commit, commit);
  assert.equal((await scene.host.systems()).bootDefault, first);
});

test('a release with another kernel is booted once, proven by the new agent, and made permanent', async () => {
  const boots = scene.host.boots;
  const next = await scene.build({ version: '2.1.0', kernel: 'two' });
  const commit = await scene.release(next, { host: { reboot: 'when-needed' } });
  const state = await scene.untilApplied(commit, BOOTS_MS);
  assert.equal(state.lastResult?.phase, 'COMMITTED');
  const { current, booted, profile, bootDefault } = await scene.host.systems();
  assert.deepEqual([current, booted, profile, bootDefault], [next, next, next, next]);
  assert.equal(scene.host.boots, boots + 1, 'one reboot');
  assert.equal((await scene.fleet.hello('pi1')).version, '2.1.0');
});

test('one that boots off the network goes back by a reboot and is quarantined', async () => {
  const { current: good } = await scene.host.systems();
  const bad = await scene.build({ version: '2.2.0', kernel: 'three', broken: ['network'] });
  await scene.release(bad, { host: { reboot: 'when-needed' } });
  const state = await scene.until(
    'quarantined',
    (seen) => seen.quarantine.some((one) => one.toplevel === bad),
    BOOTS_MS,
  );
  assert.deepEqual([state.lastResult?.phase, state.lastResult?.reason], ['ROLLED_BACK', 'probes-failed']);
  const { current, booted, profile, bootDefault } = await scene.host.systems();
  assert.deepEqual([current, booted, profile, bootDefault], [good, good, good, good]);
  assert.equal((await scene.fleet.hello('pi1')).version, '2.1.0');
});
