// `slipway ci run` from a commit to running hosts: the example fleet, real ssh, real systemd.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { runEvent, type RunEvent } from '../../src/api/run-events.ts';
import { generateSecretKey } from '../../src/nix/signature.ts';
import { ERROR_CODES } from '../../src/util/errors.ts';
import { type Fleet, openFleet } from './lab/fleet.ts';
import { openWorld, type World } from './lab/world.ts';
import { underLoad } from './pipeline-scene.ts';

let world: World;
let fleet: Fleet;
let key = '';

before(async () => {
  world = await openWorld({ hosts: ['web1', 'pi1', 'forge1'] });
  fleet = await openFleet(world, { caches: [] });
  key = join(world.folder, 'release.key');
  await writeFile(key, generateSecretKey('fleet-1'), { mode: 0o600 });
  await fleet.install();
});
after(async () => {
  await world[Symbol.asyncDispose]();
});

interface Run {
  readonly code: number;
  readonly events: readonly RunEvent[];
  readonly finished: Extract<RunEvent, { kind: 'run-finished' }>;
  readonly phases: Readonly<Record<string, string>>;
}

async function ciRun(...args: string[]): Promise<Run> {
  const keys = ['--signing-key', key, '--rekey-identity', fleet.rekeyKey];
  const argv = ['ci', 'run', '--json', '--repository', fleet.remote.url, ...keys, ...args];
  const result = await world.slipway(argv);
  const lines = result.stdout.toString('utf8').trim().split('\n');
  const events = lines.map((line) => runEvent.parse(JSON.parse(line)));
  const finished = events.at(-1);
  assert.ok(finished?.kind === 'run-finished', result.stderr);
  const phases: Record<string, string> = {};
  for (const event of events) if (event.kind === 'host') phases[event.host] = event.phase;
  return { code: result.code, events, finished, phases };
}

function told(run: Run): string {
  return JSON.stringify(run.events.filter((event) => event.kind === 'problem'));
}

test('ci run brings a commit to the push host, with its secrets, and leaves the others to themselves', async () => {
  const before = await world.host('pi1').systems();
  await fleet.setVersion('web1', '1.1.0');
  await fleet.setVersion('pi1', '1.1.0');
  await fleet.commit('A newer hello');
  await fleet.push();
  const run = await ciRun();
  assert.equal(run.code, 0, told(run));
  assert.deepEqual(run.phases, { web1: 'committed', pi1: 'awaiting-agent', forge1: 'manual' });
  const hello = await fleet.hello('web1');
  assert.equal(hello.version, '1.1.0');
  const systems = await world.host('web1').systems();
  assert.equal(systems.profile, systems.current);
  assert.equal(systems.bootDefault, systems.current);
  assert.deepEqual(await world.host('pi1').systems(), before);
  const own = run.events.find((event) => event.kind === 'span' && !event.outside);
  assert.ok(own?.kind === 'span' && own.ms < underLoad(3000), JSON.stringify(own));
});

test('ci run does nothing, and says why, when the hosts are where the release wants them', async () => {
  const run = await ciRun();
  assert.equal(run.code, 0, told(run));
  assert.equal(run.finished.outcome, 'nothing-to-do');
  assert.deepEqual(run.phases, { web1: 'unchanged', pi1: 'unchanged', forge1: 'unchanged' });
});

test('ci run brings a host to a release that stood already when it was published without deploying', async () => {
  await fleet.setVersion('web1', '1.2.0');
  await fleet.commit('A newer hello for web1');
  await fleet.push();
  const published = await ciRun('--no-deploy');
  assert.equal(published.code, 0, told(published));
  assert.equal((await fleet.hello('web1')).version, '1.1.0');
  const run = await ciRun();
  assert.equal(run.finished.outcome, 'done');
  assert.equal(run.phases['web1'], 'committed');
  assert.equal((await fleet.hello('web1')).version, '1.2.0');
});

test('ci run ends with the code of a rollback when a host refuses to become healthy', async () => {
  await fleet.setBroken('web1', 'hello');
  await fleet.commit('A hello that does not start');
  await fleet.push();
  const run = await ciRun();
  assert.equal(run.code, ERROR_CODES.deploy_rolled_back.exit, told(run));
  assert.equal(run.phases['web1'], 'rolled-back');
  assert.equal((await fleet.hello('web1')).version, '1.2.0');
  const again = await ciRun();
  assert.equal(again.code, ERROR_CODES.deploy_refused.exit, told(again));
  assert.equal(again.phases['web1'], 'quarantined');
  await fleet.setBroken('web1');
  await fleet.commit('Mended');
  await fleet.push();
  const mended = await ciRun();
  assert.equal(mended.code, 0, told(mended));
});

test('ci run names a push host that cannot be reached, and publishes all the same', async () => {
  await world.host('web1').cutNetwork();
  await fleet.setVersion('web1', '1.3.0');
  await fleet.commit('web1 is away');
  await fleet.push();
  const run = await ciRun();
  await world.host('web1').restoreNetwork();
  assert.equal(run.code, ERROR_CODES.host_unreachable.exit, told(run));
  assert.ok(run.finished.serial);
  const later = await ciRun();
  assert.equal(later.code, 0, told(later));
  assert.equal((await fleet.hello('web1')).version, '1.3.0');
});
