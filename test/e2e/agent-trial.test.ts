// The agent on a real host, with its server: what it takes, and what undoes itself.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { AgentScene } from './agent-scene.ts';

let scene: AgentScene;
let good: string;

before(async () => {
  scene = await AgentScene.open({ controller: 'present' });
});

after(async () => {
  await scene[Symbol.asyncDispose]();
});

test('the agent takes a release without evaluating, proves it and makes it permanent', async () => {
  good = await scene.build({ version: '1.1.0' });
  const commit = await scene.release(good);
  const state = await scene.untilApplied(commit);
  assert.equal(state.lastResult?.phase, 'COMMITTED');
  const systems = await scene.host.systems();
  assert.deepEqual([systems.current, systems.profile, systems.bootDefault], [good, good, good]);
  assert.equal((await scene.fleet.hello('pi1')).version, '1.1.0');
  const service = await scene.host.shell(
    'systemctl show slipway-agent -p Type -p StatusText -p WatchdogTimestamp',
  );
  assert.match(service, /Type=notify/);
  assert.match(service, /StatusText=\S/);
  assert.match(service, /WatchdogTimestamp=\S/);
  const status = JSON.parse((await scene.agent('status', '--json')).stdout) as {
    report: Record<string, unknown>;
  };
  assert.deepEqual([status.report['sync'], status.report['serial']], ['synced', 1]);
  assert.equal(status.report['bootDefault'], good);
  const known = await scene.untilReported((host) => host['current'] === good);
  assert.deepEqual([known['sync'], known['release']], ['synced', commit]);
});

test('a release that changes nothing for this host is applied without a trial', async () => {
  const commit = await scene.release(good);
  const state = await scene.untilApplied(commit);
  assert.equal(state.lastResult?.toplevel, good);
  assert.equal((await scene.host.systems()).current, good);
});

test('hooks of a release run on the host: one before it can hold it up, one after it is reported', async () => {
  const next = await scene.build({ version: '1.1.2' });
  const before = { name: 'backup', on: 'host', timeout: 60, command: 'test -e /root/backup-works' } as const;
  const tell = 'echo "$SLIPWAY_ORIGIN $SLIPWAY_PHASE $SLIPWAY_RELEASE" >/root/told; exit 3';
  const after = { name: 'tell', on: 'host', timeout: 60, command: tell, only: 'committed' } as const;
  const commit = await scene.release(next, { host: { hooks: { before: [before], after: [after] } } });
  const held = await scene.until(
    'refused by its hook',
    ({ lastResult }) => lastResult?.reason === 'hook-failed',
  );
  assert.deepEqual([held.lastResult?.phase, held.quarantine], ['REFUSED', []]);
  assert.equal((await scene.host.systems()).current, good);
  await scene.host.shell('touch /root/backup-works');
  assert.equal((await scene.agent('sync')).code, 0);
  const state = await scene.untilApplied(commit);
  assert.deepEqual(state.lastResult?.failedHooks, [{ name: 'tell', when: 'after', exit: 3 }]);
  assert.equal(await scene.host.shell('cat /root/told'), `pull COMMITTED ${commit}`);
  await scene.untilReported((host) => /hooks failed.*tell \(exit 3\)/.test(String(host['note'])));
  assert.match((await scene.agent('status')).stdout, /hooks failed.*tell \(exit 3\)/);
  await scene.untilApplied(await scene.release(good));
});

test('a testing branch is followed while it stands on the release, and left when it is gone or overtaken', async () => {
  const tried = await scene.build({ version: '1.1.1' });
  const first = await scene.release(tried, { testing: true });
  await scene.untilApplied(first);
  assert.equal((await scene.fleet.hello('pi1')).version, '1.1.1');
  await scene.dropTesting();
  await scene.untilApplied(scene.lastRelease);
  assert.equal((await scene.host.systems()).bootDefault, good);
  const again = await scene.release(tried, { testing: true });
  await scene.untilApplied(again);
  await scene.untilApplied(await scene.release(good));
  assert.equal((await scene.fleet.hello('pi1')).version, '1.1.0');
  await scene.dropTesting();
});

test('a release that takes the host off the network rolls back by itself and is quarantined', async () => {
  const bad = await scene.build({ version: '1.2.0', broken: ['network'] });
  await scene.release(bad);
  const state = await scene.until('quarantined', (seen) =>
    seen.quarantine.some((one) => one.toplevel === bad),
  );
  assert.equal(state.lastResult?.phase, 'ROLLED_BACK');
  assert.equal(state.quarantine[0]?.reason, 'probes-failed');
  assert.match(state.quarantine[0].detail, /remote http:\/\/forge\.lab:3000\/fleet\.git/);
  const systems = await scene.host.systems();
  assert.deepEqual([systems.current, systems.profile, systems.bootDefault], [good, good, good]);
  assert.equal((await scene.fleet.hello('pi1')).version, '1.1.0');
  const later = await scene.until('refused', (seen) => seen.seen?.decision === 'refuse');
  assert.equal(later.seen?.reason, 'quarantined');
});

test('the same broken system is not tried again under a new commit', async () => {
  const [entry] = (await scene.state())?.quarantine ?? [];
  const commit = await scene.release(entry?.toplevel ?? '');
  const state = await scene.until('seen', (now) => now.seen?.release?.commit === commit && !now.trial);
  assert.equal(state.seen?.reason, 'quarantined');
  assert.notEqual(state.applied?.commit, commit);
  assert.equal((await scene.host.systems()).current, good);
});

test('a release whose unit fails rolls back by itself', async () => {
  const bad = await scene.build({ version: '1.3.0', broken: ['hello'] });
  await scene.release(bad);
  const state = await scene.until('quarantined', (seen) =>
    seen.quarantine.some((one) => one.toplevel === bad),
  );
  assert.equal(state.lastResult?.reason, 'health-failed');
  assert.equal((await scene.host.systems()).current, good);
  assert.equal((await scene.fleet.hello('pi1')).version, '1.1.0');
});

test('`agent retry` tries a quarantined system once more', async () => {
  const before = await scene.state();
  const { code, stderr } = await scene.agent('retry', before?.quarantine.at(-1)?.toplevel ?? '');
  assert.equal(code, 0, stderr);
  const state = await scene.state();
  assert.equal(state?.quarantine.length, before?.quarantine.length);
  assert.notEqual(state?.lastResult, before?.lastResult);
});

test('an agent that is killed in a trial resolves it after its restart', async () => {
  const top = await scene.build({ version: '1.7.0' });
  const commit = await scene.release(top);
  await scene.until('in a trial', (seen) => seen.trial !== undefined && seen.operation.name === 'trial');
  const pid = await scene.agentPid();
  await scene.host.exec(['kill', '-9', String(pid)]);
  const state = await scene.untilApplied(commit);
  assert.equal(state.lastResult?.phase, 'COMMITTED');
  assert.notEqual(await scene.agentPid(), pid);
  assert.equal((await scene.fleet.hello('pi1')).version, '1.7.0');
});

test('SIGTERM ends the agent within two seconds and leaves a trial to its own unit', async () => {
  const top = await scene.build({ version: '1.8.0' });
  const commit = await scene.release(top);
  await scene.until('in a trial', (seen) => seen.trial !== undefined && seen.operation.name === 'trial');
  const start = performance.now();
  await scene.host.exec(['systemctl', 'stop', 'slipway-agent']);
  assert.ok(performance.now() - start < 2_000);
  assert.match(await scene.host.shell('systemctl list-units --no-legend "slipway-activate-*"'), /running/);
  await scene.host.exec(['systemctl', 'start', 'slipway-agent']);
  await scene.untilApplied(commit);
});

test('a power cut in a trial boots the old system, and the new one is quarantined', async () => {
  const { current } = await scene.host.systems();
  const bad = await scene.build({ version: '1.9.0', broken: ['hello-http'] });
  await scene.release(bad);
  await scene.until('in a trial', (seen) => seen.operation.name === 'trial');
  await scene.host.powerCut();
  const state = await scene.until('quarantined', (seen) =>
    seen.quarantine.some((one) => one.toplevel === bad),
  );
  assert.equal(state.lastResult?.reason, 'rebooted-in-trial');
  const systems = await scene.host.systems();
  assert.deepEqual([systems.current, systems.profile, systems.bootDefault], [current, current, current]);
});
