// The ground that everything is proven on must itself be proven: hosts are real, and nothing of them stays.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { sleep, within } from '../../src/util/deadline.ts';
import { openFleet, type Fleet } from './lab/fleet.ts';
import { findTraces, worldNamespaces } from './lab/traces.ts';
import { openWorld, type World } from './lab/world.ts';

const WARM_START_MS = 4_000;
let world: World;
let fleet: Fleet;
let openedInMs: number;

before(async () => {
  await (await openWorld())[Symbol.asyncDispose](); // builds the base system when this machine has none yet
  const start = performance.now();
  world = await openWorld({ hosts: ['web1', 'pi1', 'forge1'] });
  openedInMs = performance.now() - start;
  fleet = await openFleet(world);
  await fleet.install();
});

const holders = new Set<number>();

after(async () => {
  // After a failed test: a holder that lives keeps its pipes open, and this file from ending.
  for (const holder of holders) if (isAlive(holder)) process.kill(holder, 'SIGKILL');
  await world[Symbol.asyncDispose]();
});

test('openWorld() has three hosts ready in less than four seconds', () => {
  assert.ok(openedInMs < WARM_START_MS, `it took ${Math.round(openedInMs)} ms`);
});

test('a host is a machine of its own: systemd, identity, address, ssh host key', async () => {
  for (const host of world.hosts) {
    assert.equal(await host.execText(['hostname']), host.name);
    assert.equal(await host.execText(['cat', '/proc/1/comm']), 'systemd');
    assert.equal(await host.execText(['systemctl', '--failed', '--no-legend']), '');
    assert.match(await host.shell('ip -4 -o address show eth0'), new RegExp(` ${host.address}/24 `));
    const script = 'hostname; cat /etc/machine-id';
    const bySsh = await world.runText(['ssh', '-o', 'BatchMode=yes', host.name, script]);
    assert.equal(bySsh, (await host.shell(script)) + '\n');
  }
  const ids = await Promise.all(
    world.hosts.map(async (host) => await host.execText(['cat', '/etc/machine-id'])),
  );
  assert.equal(new Set(ids).size, 3);
});

test('the controller side has a /nix of its own', async () => {
  const inside = await world.runText(['stat', '--format=%d:%i', '/nix']);
  assert.equal(inside, await world.runText(['stat', '--format=%d:%i', join(world.folder, 'nix')]));
});

test('Fleet.install() leaves generation 1 as profile, boot default and running system', async () => {
  const forge1 = await world.host('forge1').systems();
  assert.match(forge1.current, /^\/nix\/store\/[^/]+-nixos-system-forge1-/);
  assert.deepEqual(new Set(Object.values(forge1)), new Set([forge1.current]));
  const hello = await fleet.hello('forge1');
  assert.equal(hello.version, '0.0.0');
  const digest = await world.host('forge1').shell('sha256sum </run/agenix/hello');
  assert.equal(hello.secret, digest.split(' ')[0]);
});

test('a reboot keeps the generation and starts its units', async () => {
  const web1 = world.host('web1');
  const before = await web1.systems();
  const bootId = await web1.execText(['cat', '/proc/sys/kernel/random/boot_id']);
  await web1.reboot();
  assert.deepEqual(await web1.systems(), before);
  assert.notEqual(await web1.execText(['cat', '/proc/sys/kernel/random/boot_id']), bootId);
  assert.equal((await fleet.hello('web1')).version, '0.0.0');
});

test('a power cut in a trial boots the boot default', async () => {
  const web1 = world.host('web1');
  const before = await web1.systems();
  const next = await fleet.buildVariant('web1', { version: '2.0.0' });
  await web1.execText([`${next}/bin/switch-to-configuration`, 'test']);
  assert.equal((await fleet.hello('web1')).version, '2.0.0');
  assert.equal((await web1.systems()).bootDefault, before.bootDefault);
  await web1.powerCut();
  assert.deepEqual(await web1.systems(), before);
  assert.equal((await fleet.hello('web1')).version, '0.0.0');
});

test('cutNetwork() cuts ssh and leaves the console', async () => {
  const pi1 = world.host('pi1');
  const probe = ['ssh', '-o', 'BatchMode=yes', '-o', 'ConnectTimeout=1', 'pi1', 'true'];
  await pi1.cutNetwork();
  assert.equal((await world.run(probe)).code, 255);
  assert.equal(await pi1.execText(['hostname']), 'pi1');
  await pi1.restoreNetwork();
  await within(10_000, 'ssh after the cut', async (signal) => {
    while ((await world.run(probe)).code !== 0) await sleep(50, signal);
  });
});

const BREAKS = [
  { word: 'hello', action: 'test', code: 4, says: /the following units failed: hello\.service/ },
  { word: 'activation', action: 'test', code: 2, says: /Failed to run activate script/ },
  { word: 'boot-loader', action: 'boot', code: 1, says: /Failed to install bootloader/ },
  { word: 'inhibit', action: 'check', code: 1, says: /Pre-switch checks failed/ },
  { word: 'inhibit', action: 'dry-activate', code: 0, says: /would activate the configuration/ },
] as const;

test('switch-to-configuration ends with the codes and words of NixOS', async () => {
  const forge1 = world.host('forge1');
  const good = (await forge1.systems()).current;
  for (const { word, action, code, says } of BREAKS) {
    const bad = await fleet.buildVariant('forge1', { broken: [word] });
    const result = await forge1.exec([`${bad}/bin/switch-to-configuration`, action]);
    assert.deepEqual({ word, code: result.code }, { word, code });
    assert.match(result.stderr, says);
    await forge1.execText([`${good}/bin/switch-to-configuration`, 'test']);
  }
  assert.equal((await forge1.systems()).current, good);
  assert.equal((await fleet.hello('forge1')).version, '0.0.0');
});

test('switch-to-configuration ends with 11 while another one holds the lock', async () => {
  const forge1 = world.host('forge1');
  const { current } = await forge1.systems();
  const script = `flock /run/nixos/switch-to-configuration.lock ${current}/bin/switch-to-configuration test`;
  const result = await forge1.exec(['sh', '-c', script]);
  assert.equal(result.code, 11);
});

test('a toplevel can take its host off the network, and the one before brings it back', async () => {
  const pi1 = world.host('pi1');
  const good = (await pi1.systems()).current;
  const bad = await fleet.buildVariant('pi1', { broken: ['network'] });
  await pi1.execText([`${bad}/bin/switch-to-configuration`, 'test']);
  await assert.rejects(fleet.hello('pi1'));
  await pi1.execText([`${good}/bin/switch-to-configuration`, 'test']);
  assert.equal((await fleet.hello('pi1')).version, '0.0.0');
});

test('a change to one host changes the toplevel of that host alone', async () => {
  const toplevels = async (): Promise<unknown[]> =>
    await Promise.all(
      ['web1', 'pi1', 'forge1'].map(async (host) => {
        const attribute = `.#nixosConfigurations.${host}.config.system.build.toplevel.outPath`;
        return await world.runText(['nix', 'eval', '--raw', attribute], { cwd: fleet.checkout });
      }),
    );
  const before = await toplevels();
  await fleet.setVersion('web1', '3.0.0');
  const after = await toplevels();
  assert.deepEqual(
    after.map((path, index) => path === before[index]),
    [false, true, true],
  );
});

test('the forge tells a webhook of a pushed branch, and expose() leads into the world', async () => {
  const heard: { event: string; body: { ref: string; after: string } }[] = [];
  const inside = world.start([world.node, '-e', ECHO_WEBHOOKS]);
  await inside.waitForLine(/^ready$/);
  await fleet.remote.setWebhook({ url: 'http://controller:7001/', secret: 's', kind: 'forgejo' });
  await fleet.write('note', 'a change\n');
  const commit = await fleet.commit('Something to push');
  await fleet.push();
  await inside.waitForLine(/refs\/heads\/main/);
  const port = await world.expose(7001);
  const answer = await fetch(`http://127.0.0.1:${port}/`);
  heard.push(...((await answer.json()) as typeof heard));
  assert.deepEqual(
    heard.map(({ event, body }) => [event, body.ref, body.after]),
    [['push', 'refs/heads/main', commit]],
  );
  await inside.stop();
});

const ECHO_WEBHOOKS = `
const heard = [];
require('node:http').createServer(async (request, response) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  if (request.method === 'POST') heard.push({ event: request.headers['x-forgejo-event'], body: JSON.parse(text) });
  if (request.method === 'POST') console.log(text);
  response.end(JSON.stringify(heard));
}).listen(7001, () => console.log('ready'));`;

const DEATHS = [
  { name: 'SIGKILL of the test process', kill: 'holder', signal: 'SIGKILL' },
  { name: 'Ctrl-C to the test process and its group', kill: 'group', signal: 'SIGINT' },
  { name: "SIGKILL of the world's process 1", kill: 'init', signal: 'SIGKILL' },
] as const;

for (const death of DEATHS) {
  test(`a world leaves nothing behind after ${death.name}`, async () => {
    const held = await holdWorld();
    kill(held, death.kill, death.signal);
    await assertGone(held);
  });
}

test('after SIGKILL of the janitor the kernel ends the world and the next world sweeps its folder', async () => {
  const held = await holdWorld();
  kill(held, 'janitor', 'SIGKILL');
  await within(10_000, 'The end of the world', async (signal) => {
    while ((await findTraces(held.folder, held.namespaces)).processes.length > 0) await sleep(50, signal);
  });
  await (await openWorld())[Symbol.asyncDispose]();
  await assertGone(held);
});

interface HeldWorld {
  readonly folder: string;
  readonly janitor: number;
  readonly init: number;
  readonly holder: number;
  readonly namespaces: ReadonlySet<string>;
}

async function holdWorld(): Promise<HeldWorld> {
  const main = join(import.meta.dirname, 'lab/hold-main.ts');
  const child = spawn(process.execPath, [main, 'a', 'b'], {
    detached: true,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  if (child.pid !== undefined) holders.add(child.pid);
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  const told = JSON.parse(line) as { folder: string; janitor: number; init: number };
  const namespaces = await worldNamespaces(told.folder, told.init);
  const alive = await findTraces(told.folder, namespaces);
  assert.ok(alive.processes.length > 10, 'the world has processes');
  assert.ok(alive.netns.length >= 3 && alive.cgroups.length > 0 && alive.folder.length === 1);
  return { ...told, holder: child.pid ?? 0, namespaces };
}

function kill(held: HeldWorld, what: 'holder' | 'group' | 'init' | 'janitor', signal: NodeJS.Signals): void {
  process.kill(what === 'group' ? -held.holder : held[what], signal);
}

async function assertGone(held: HeldWorld): Promise<void> {
  const gone = { processes: [], mounts: [], netns: [], cgroups: [], folder: [] };
  const limit = performance.now() + 15_000;
  while (performance.now() < limit) {
    const traces = await findTraces(held.folder, held.namespaces);
    // The process that held the world is not part of it; where only the world was killed it still stands.
    const processes = traces.processes.filter((pid) => pid !== held.holder);
    if (JSON.stringify({ ...traces, processes }) === JSON.stringify(gone)) break;
    await sleep(50);
  }
  if (isAlive(held.holder)) process.kill(held.holder, 'SIGKILL');
  const traces = await findTraces(held.folder, held.namespaces);
  assert.deepEqual(traces, gone);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
