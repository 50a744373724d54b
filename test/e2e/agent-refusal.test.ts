// The agent on a real host without its controller: what it refuses, and what makes it wait.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { generateSecretKey, parseSecretKey } from '../../src/nix/signature.ts';
import { AgentScene } from './agent-scene.ts';

let scene: AgentScene;
let first: string;

before(async () => {
  scene = await AgentScene.open({ controller: 'absent' });
  first = (await scene.host.systems()).current;
});

after(async () => {
  await scene[Symbol.asyncDispose]();
});

test('an agent whose controller is absent works all the same, and says so', async () => {
  const commit = await scene.release(await scene.build({ version: '1.3.0' }));
  await scene.untilApplied(commit);
  const { stdout } = await scene.agent('status');
  assert.match(stdout, /controller +No answer from http:\/\/10\.77\.0\.1:9\//);
});

test('a manifest that a stranger signed is refused with a clear message', async () => {
  const top = await scene.build({ version: '1.4.0' });
  const honest = scene.lastRelease;
  await scene.release(top, { key: parseSecretKey(generateSecretKey('mallory')) });
  const state = await scene.until('refused', (seen) => seen.seen?.reason === 'signature-invalid');
  assert.match(state.seen?.detail ?? '', /signed by mallory, and this agent trusts only release-1/);
  assert.match(await scene.log(), /refused \[signature-invalid\].*add its public key to releaseKeys/);
  const commit = await scene.release(top, { parent: honest });
  await scene.untilApplied(commit);
  assert.equal((await scene.fleet.hello('pi1')).version, '1.4.0');
});

test('a rewritten history is refused until an operator accepts it', async () => {
  const top = await scene.build({ version: '1.5.0' });
  const commit = await scene.release(top, { parent: undefined });
  const state = await scene.until('refused', (seen) => seen.seen?.reason === 'history-rewritten');
  assert.match(state.seen?.detail ?? '', /was rewritten/);
  assert.equal((await scene.fleet.hello('pi1')).version, '1.4.0');
  const { code, stderr } = await scene.agent('accept', commit);
  assert.equal(code, 0, stderr);
  await scene.untilApplied(commit);
  assert.equal((await scene.fleet.hello('pi1')).version, '1.5.0');
});

test('a suspended agent takes nothing until it is resumed', async () => {
  assert.equal((await scene.agent('suspend', '--for', '1h', '--reason', 'debugging')).code, 0);
  const top = await scene.build({ version: '1.6.0' });
  const commit = await scene.release(top);
  const state = await scene.until('waits', (seen) => seen.seen?.reason === 'suspended');
  assert.match(state.seen?.detail ?? '', /debugging/);
  const { stdout } = await scene.agent('status');
  assert.match(stdout, /suspended +by root until .*: debugging/);
  assert.equal((await scene.agent('resume')).code, 0);
  await scene.untilApplied(commit);
});

test('a deferred release is evaluated and built on the host, for exactly the signed path', async () => {
  const { toplevel, tree } = await scene.evaluate({ version: '2.0.0' });
  const commit = await scene.release(toplevel, { tree, host: { state: 'deferred' } });
  await scene.untilApplied(commit);
  assert.equal((await scene.host.systems()).current, toplevel);
  assert.equal((await scene.fleet.hello('pi1')).version, '2.0.0');
});

test('a deferred release that builds to another path than was signed is refused', async () => {
  const { tree } = await scene.evaluate({ version: '2.1.0' });
  const other = first.replace(/\/nix\/store\/[^-]+/, `/nix/store/${'x'.repeat(32)}`);
  await scene.release(other, { tree, host: { state: 'deferred' } });
  const state = await scene.until('quarantined', (seen) =>
    seen.quarantine.some((one) => one.toplevel === other),
  );
  assert.match(state.quarantine.at(-1)?.detail ?? '', /signed for .* but this host evaluates it to/);
});

test('a path that no cache has is tried again later, or at once when asked', async () => {
  const { toplevel } = await scene.evaluate({ version: '2.2.0' });
  const commit = await scene.release(toplevel);
  const state = await scene.until('backs off', (seen) => seen.seen?.reason === 'backing-off');
  assert.match(state.seen?.detail ?? '', /No cache gave/);
  assert.equal(await scene.build({ version: '2.2.0' }), toplevel);
  const { code, stderr } = await scene.agent('sync');
  assert.equal(code, 0, stderr);
  assert.equal((await scene.state())?.applied?.commit, commit);
});

test('a host switched by hand is left alone, and its status says so', async () => {
  const commit = await scene.release(await scene.build({ version: '2.3.0' }));
  await scene.untilApplied(commit);
  await scene.host.exec([`${first}/bin/switch-to-configuration`, 'test']);
  const state = await scene.until('drifted', (seen) => seen.seen?.reason === 'drifted');
  assert.match(state.seen?.detail ?? '', /by hand/);
  assert.equal((await scene.host.systems()).current, first);
});
