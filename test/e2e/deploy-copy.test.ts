// How a closure gets to a host: pushed, fetched from caches, built there; cut off in the middle; and by whom: a login
// that becomes root, and one that may not.
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ExecOptions, ExecResult } from '../../src/effects/exec.ts';
import { CONTROLLER_ADDRESS } from './lab/world.ts';
import { type DeployScene, openDeployScene } from './deploy-scene.ts';
import type { WorldHost } from './lab/world-host.ts';

const CACHE_PORT = 8077;

describe('the way of a closure to its host', { concurrency: 2 }, () => {
  let scene: DeployScene;
  before(async () => {
    scene = await openDeployScene(6);
  });
  after(async () => {
    await scene[Symbol.asyncDispose]();
  });

  async function deploy(
    host: WorldHost,
    toplevel: string,
    args: readonly string[] = [],
    options: ExecOptions = {},
  ): Promise<ExecResult> {
    const login = args.includes('--host') ? [] : ['--host', `root@${host.address}`];
    const to = [...login, '--host-key', host.publicKey, '--toplevel', toplevel, '--json', ...args];
    return await scene.world.slipway(['deploy', host.name, ...to], options);
  }

  /** A binary cache on the controller, signed; the host trusts its key. */
  async function openCache(host: WorldHost): Promise<(path: string) => Promise<void>> {
    const { world } = scene;
    const folder = join(world.folder, 'cache');
    const key = join(world.folder, 'cache.key');
    await mkdir(folder);
    await world.runText(['nix-store', '--generate-binary-cache-key', 'lab-1', key, `${key}.pub`]);
    world.start(['busybox', 'httpd', '-f', '-p', String(CACHE_PORT), '-h', folder]);
    const trusted = (await world.runText(['cat', `${key}.pub`])).trim();
    await host.shell(`printf '%s\\n' 'substituters = http://${CONTROLLER_ADDRESS}:${CACHE_PORT}' \\
      'trusted-public-keys = ${trusted}' >>/etc/nix/nix.conf; sed -i '/^substituters =$/d' /etc/nix/nix.conf`);
    return async (path) => {
      await world.runText(['nix', 'copy', '--to', `file://${folder}?secret-key=${key}`, path]);
    };
  }

  test('from the caches of the host, alone or with what they lack pushed', async () => {
    const { host } = scene.takeHost();
    const publish = await openCache(host);
    const cached = await scene.build(host, 'v2');
    await publish(cached);
    const fetched = await deploy(host, cached, ['--copy', 'cache']);
    assert.deepEqual(outcomes(fetched), ['committed'], fetched.stdout.toString() + fetched.stderr);
    await scene.assertRuns(host, cached);
    const unknown = await scene.build(host, 'v3');
    const missing = await deploy(host, unknown, ['--copy', 'cache']);
    assert.deepEqual(outcomes(missing), ['failed'], missing.stdout.toString());
    await scene.assertRuns(host, cached);
    const both = await deploy(host, unknown, ['--copy', 'both']);
    assert.deepEqual(outcomes(both), ['committed'], both.stdout.toString() + both.stderr);
    await scene.assertRuns(host, unknown);
  });

  test('built on the host itself, from a flake that only this machine has', async () => {
    const { host } = scene.takeHost();
    const source = await scene.build(host, 'v2');
    const folder = join(scene.world.folder, 'built');
    await mkdir(folder);
    await scene.world.runText(['cp', '-r', source, join(folder, 'system')]);
    await writeFile(
      join(folder, 'flake.nix'),
      `{ outputs = { self }: {
        nixosConfigurations.${host.name}.config.system.build.toplevel = derivation {
          name = "nixos-system-${host.name}-v2"; system = "x86_64-linux"; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
          base = builtins.path { path = ./system; name = "system"; }; args = [ "-c" "cp -r $base $out" ]; };
        slipway.hosts.${host.name} = { mode = "push"; targetHost = "${host.address}"; publicKey = "${host.publicKey}"; };
      }; }`,
    );
    const args = ['deploy', host.name, '--flake', `path:${folder}`, '--build-on', 'target', '--json'];
    const result = await scene.world.slipway(args);
    assert.deepEqual(outcomes(result), ['committed'], result.stdout.toString() + result.stderr);
    const { current } = await host.systems();
    assert.match(basename(current), new RegExp(`-nixos-system-${host.name}-v2$`));
    await scene.assertRuns(host, current);
    const here = await scene.world.run(['nix-store', '--check-validity', current]);
    assert.notEqual(here.code, 0, 'this machine did not build it');
  });

  test('again after it was cut off in the middle', async () => {
    const { host, old } = scene.takeHost();
    const noise = 'x'.repeat(60).concat('\n').repeat(500_000); // 30 MB
    const next = await scene.build(host, 'v2', { files: { noise } });
    await scene.world.runText([
      'tc',
      'qdisc',
      'add',
      'dev',
      `v-${host.name}`,
      'root',
      'tbf',
      'rate',
      '40mbit',
      'burst',
      '64k',
      'latency',
      '50ms',
    ]);
    const client = scene.start(host, next);
    await client.waitForLine(/^phase copying/);
    await host.shell(`until [ -e ${next}.lock ] || [ -e ${next} ]; do sleep 0.05; done`);
    client.kill('SIGKILL');
    await scene.assertRuns(host, old);
    await scene.world.runText(['tc', 'qdisc', 'del', 'dev', `v-${host.name}`, 'root']);
    const again = await scene.deploy(host, next);
    assert.equal(again.kind, 'committed', JSON.stringify(again));
    await scene.assertRuns(host, next);
  });

  test('not to a store that is full: it says so and changes nothing', async () => {
    const { host, old } = scene.takeHost();
    const next = await scene.build(host, 'v2', { files: { noise: 'y'.repeat(40_000_000) } });
    await host.shell(`mkdir -p /mnt/small
      mount -t tmpfs -o size=16m tmpfs /mnt/small; mkdir /mnt/small/u /mnt/small/w
      mount -t overlay overlay -o lowerdir=/nix/store,upperdir=/mnt/small/u,workdir=/mnt/small/w /nix/store`);
    const full = await deploy(host, next);
    const said = full.stdout.toString();
    assert.match(said, /disk-full|No space left|nix-collect-garbage/, said + full.stderr);
    await host.shell('umount /nix/store; umount /mnt/small');
    await scene.assertRuns(host, old);
  });

  test('as a login that becomes root by doas, and not as one that cannot', async () => {
    const { host, old } = scene.takeHost();
    await host.shell(`useradd -m admin; echo admin:a-word | chpasswd
      cp -r /root/.ssh /home/admin/.ssh; chown -R admin /home/admin/.ssh; rm -f /etc/sudoers.d/*; chmod 600 /usr/bin/sudo`);
    const login = ['--host', `admin@${host.address}`];
    const next = await scene.build(host, 'v2');
    const refused = await deploy(host, next, login);
    assert.match(
      refused.stdout.toString(),
      /admin cannot become root on [^"]*".*give admin sudo, doas or run0/,
    );
    assert.equal(refused.code, 5);
    await host.shell(`echo 'permit nopass admin as root' >/etc/doas.conf; chmod 600 /etc/doas.conf`);
    const done = await deploy(host, next, login);
    assert.deepEqual(outcomes(done), ['committed'], done.stdout.toString() + done.stderr);
    await scene.assertRuns(host, next);
    assert.notEqual(next, old);
  });

  test('unsigned, to a login that Nix does not trust: it says what would help', async () => {
    const { host, old } = scene.takeHost();
    await host.shell(`useradd -m admin; echo admin:s3cret-word | chpasswd
      cp -r /root/.ssh /home/admin/.ssh; chown -R admin /home/admin/.ssh
      echo 'admin ALL=(ALL) ALL' >/etc/sudoers.d/admin
      systemd-run -q --unit=nix-daemon nix-daemon`);
    const base = await scene.build(host, 'v2');
    // Built, not added: only what a hash of its content names goes without a signature.
    const expression = `derivation { name = "nixos-system-${host.name}-v2"; system = "x86_64-linux"; builder = "/bin/sh";
      PATH = "/usr/bin:/bin"; args = [ "-c" "cp -r ${base} $out" ]; }`;
    const next = (await scene.world.runText(['nix-build', '--no-out-link', '-E', expression])).trim();
    const login = ['--host', `admin@${host.address}`, '--sudo-password', 'env:RIGHT'];
    const result = await deploy(host, next, login, { env: { RIGHT: 's3cret-word' } });
    assert.deepEqual(outcomes(result), ['failed'], result.stdout.toString());
    assert.match(result.stdout.toString(), /does not trust/, result.stdout.toString() + result.stderr);
    assert.match(result.stdout.toString(), /trusted-users/);
    await scene.assertRuns(host, old);
  });
});

function outcomes(result: ExecResult): string[] {
  const report = JSON.parse(result.stdout.toString() || '{}') as { hosts?: { outcome: string }[] };
  return (report.hosts ?? []).map(({ outcome }) => outcome);
}
