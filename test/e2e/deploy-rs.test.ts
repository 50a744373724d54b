// A deploy-rs flake, unchanged: its nodes, its wrapped NixOS systems, profiles of other users, logins that need sudo.
import assert from 'node:assert/strict';
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ExecOptions, ExecResult } from '../../src/effects/exec.ts';
import { type DeployScene, openDeployScene } from './deploy-scene.ts';
import type { FaultySystem } from './faulty-system.ts';
import type { WorldHost } from './lab/world-host.ts';

/** What deploy-rs' `lib.activate.custom` makes, without nixpkgs: the base's links and the two files. */
const ACTIVATABLE = `name: base: script: derivation {
  name = "activatable-\${name}"; system = "x86_64-linux"; builder = "/bin/sh";
  inherit base script; PATH = "/usr/bin:/bin";
  args = [ "-c" ''
    mkdir $out; [ -z "$base" ] || ln -s $base/* $out/
    printf '#!/bin/sh\\nset -eu\\n%s\\n' "$script" >$out/deploy-rs-activate
    printf '#!/bin/sh\\nexit 99\\n' >$out/activate-rs; chmod +x $out/deploy-rs-activate $out/activate-rs
  '' ];
}`;

describe('slipway deploy on a deploy-rs flake', () => {
  let scene: DeployScene;
  let folder: string;
  before(async () => {
    scene = await openDeployScene(2);
    folder = join(scene.world.folder, 'rs');
    await mkdir(folder);
  });
  after(async () => {
    await scene[Symbol.asyncDispose]();
  });

  async function writeFlake(nodes: string, more = ''): Promise<void> {
    const text = `{ outputs = { self }: let activatable = ${ACTIVATABLE}; in { deploy = { ${more} nodes = ${nodes}; }; }; }`;
    await writeFile(join(folder, 'flake.nix'), text);
  }

  async function deploy(
    target: string,
    args: readonly string[] = [],
    options: ExecOptions = {},
  ): Promise<ExecResult> {
    return await scene.world.slipway(['deploy', `path:${folder}${target}`, '--json', ...args], options);
  }

  /** Adds the system's folder to the flake; answers the Nix expression of its wrapped profile. */
  async function wrapped(
    host: WorldHost,
    system: Omit<FaultySystem, 'host'>,
  ): Promise<{ nix: string; toplevel: string }> {
    const toplevel = await scene.build(host, system.version, system);
    const name = `nixos-system-${host.name}-${system.version}`;
    await cp(join(scene.world.folder, name), join(folder, name), { recursive: true });
    const script = '$PROFILE/bin/switch-to-configuration switch';
    const base = `"\${builtins.path { path = ./${name}; name = "${name}"; }}"`;
    return { nix: `activatable "${name}" ${base} ${JSON.stringify(script)}`, toplevel };
  }

  test('deploys the system inside the wrapper, so that the boot loader knows it', async () => {
    const host = scene.world.host('h01');
    const { nix, toplevel } = await wrapped(host, { version: 'v2' });
    await writeFlake(
      `{ h01 = { hostname = "${host.address}"; profiles.system = { user = "root"; path = ${nix}; }; };
        away = { hostname = "10.77.0.250"; profiles.system.path = throw "nobody asked for this"; }; }`,
      'sshUser = "root"; fastConnection = true; confirmTimeout = 20;',
    );
    const result = await deploy('#h01.system');
    assert.deepEqual(outcomes(result), ['h01 committed'], result.stdout.toString() + result.stderr);
    assert.match(basename(toplevel), /nixos-system-h01-v2$/);
    await scene.assertRuns(host, (await host.systems()).current);
    assert.match((await host.systems()).current, /-nixos-system-h01-v2$/);
    assert.deepEqual(outcomes(await deploy('#h01')), ['h01 unchanged']);
    const shown = await scene.world.slipway(['generations', `path:${folder}#h01`, '--json']);
    assert.equal((JSON.parse(shown.stdout.toString()) as unknown[]).length, 2, shown.stderr);
  });

  test("sets a user's profile, runs its script as that user, and goes back by number when it fails", async () => {
    const host = scene.world.host('h02');
    await host.shell(
      `useradd -m app; install -d -o app /nix/var/nix/profiles/per-user/app; systemd-run -q --unit=nix-daemon nix-daemon`,
    );
    const custom = async (script: string): Promise<ExecResult> => {
      await writeFlake(`{ h02 = { hostname = "${host.address}"; sshUser = "root"; fastConnection = true;
        profiles.hello = { user = "app"; path = activatable "hello" "" ${JSON.stringify(script)}; }; }; }`);
      return await deploy('#h02.hello');
    };
    const link = '/nix/var/nix/profiles/per-user/app/hello'; // as Nix' daemon makes that folder
    const write = 'test -L "$PROFILE"; id -un >$HOME/said; echo ';
    const bad = await custom(`${write} zero >>$HOME/said; exit 3`);
    assert.deepEqual(outcomes(bad), ['h02.hello rolled-back'], bad.stdout.toString() + bad.stderr);
    assert.equal(
      await host.shell(`ls -A ${link}* 2>/dev/null || true`),
      '',
      'the first one leaves nothing behind',
    );
    const good = await custom(`${write} one >>$HOME/said`);
    assert.deepEqual(outcomes(good), ['h02.hello committed'], good.stdout.toString() + good.stderr);
    assert.equal(await host.shell('cat /home/app/said'), 'app\none');
    const one = await host.shell(`readlink -f ${link}`);
    const worse = await custom(`${write} two >>$HOME/said; exit 3`);
    assert.deepEqual(outcomes(worse), ['h02.hello rolled-back'], worse.stdout.toString());
    assert.equal(await host.shell('cat /home/app/said'), 'app\none', 'the old script ran again');
    assert.equal(await host.shell(`readlink -f ${link}`), one);
    assert.match(
      await host.shell(`cd /nix/var/nix/profiles/per-user/app; echo hello*`),
      /^hello hello-\d+-link$/,
      'one generation is left',
    );
    assert.equal(await host.shell('ls /nix/var/nix/gcroots/slipway'), '');
  });

  test('becomes root by sudo, also with a password that is in no argument list', async () => {
    const host = scene.world.host('h01');
    await host.shell(`useradd -m admin; echo admin:s3cret-word | chpasswd
      cp -r /root/.ssh /home/admin/.ssh; chown -R admin /home/admin/.ssh
      echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin
      systemd-run -q --unit=nix-daemon nix-daemon --option trusted-users 'root admin'`);
    const node = async (version: string): Promise<void> => {
      const { nix } = await wrapped(host, { version });
      await writeFlake(`{ h01 = { hostname = "${host.address}"; sshUser = "admin"; fastConnection = true;
        profiles.system = { user = "root"; path = ${nix}; }; }; }`);
    };
    await node('v3');
    const free = await deploy('');
    assert.deepEqual(outcomes(free), ['h01 committed'], free.stdout.toString() + free.stderr);
    await host.shell(`echo 'admin ALL=(ALL) ALL' >/etc/sudoers.d/admin`);
    await node('v4');
    const without = await deploy('');
    assert.match(without.stdout.toString(), /"forbidden".*--ask-sudo-password/, without.stdout.toString());
    const env = { WRONG: 'nope', RIGHT: 's3cret-word' };
    const wrong = await deploy('', ['--sudo-password', 'env:WRONG'], { env });
    assert.match(wrong.stdout.toString(), /does not let admin become root/);
    const watched = scene.world.start(['sh', '-c', 'while :; do ps axww -o args; sleep 0.1; done']);
    const right = await deploy('', ['--sudo-password', 'env:RIGHT'], { env });
    await watched.stop();
    assert.deepEqual(outcomes(right), ['h01 committed'], right.stdout.toString() + right.stderr);
    assert.match((await host.systems()).profile, /-nixos-system-h01-v4$/);
    assert.ok(!watched.lines.some((line) => line.includes('s3cret-word')));
    assert.ok(
      watched.lines.some((line) => line.includes('sudo -k -S')),
      'it was watched',
    );
  });

  test('says where an output is wrong, and suggests the name that was meant', async () => {
    const cases: [string, string, RegExp][] = [
      ['{ a = { profiles = { }; }; }', '', /deploy\.nodes\.a\.hostname: expected string/],
      [
        '{ a = { hostname = "h"; profiles.p = { user = "u"; path = { }; }; }; }',
        '',
        /deploy\.nodes\.a\.profiles\.p\.path: expected string/,
      ],
      [
        '{ a = { hostname = "h"; confirmTimeout = "30"; profiles = { }; }; }',
        '',
        /deploy\.nodes\.a\.confirmTimeout: expected number/,
      ],
      ['[ ]', '', /deploy\.nodes: expected (record|object)/],
      [
        '{ a = { hostname = "h"; profiles = [ ]; }; }',
        '',
        /deploy\.nodes\.a\.profiles: expected (record|object)/,
      ],
      [
        '{ web1 = { hostname = "h"; profiles.system = { }; }; }',
        '#web2',
        /no node web2\. Did you mean web1\?/,
      ],
      [
        '{ web1 = { hostname = "h"; profiles.system = { }; }; }',
        '#web1.sytem',
        /no profile sytem\. Did you mean system\?/,
      ],
      ['{ }', '#a.b.c', /names no node and profile/],
    ];
    for (const [nodes, target, expected] of cases) {
      await writeFlake(nodes);
      const result = await deploy(target);
      assert.match(result.stdout.toString() + result.stderr, expected);
    }
  });
});

function outcomes(result: ExecResult): string[] {
  const report = JSON.parse(result.stdout.toString() || '{}') as {
    hosts?: { host: string; outcome: string }[];
  };
  return (report.hosts ?? [{ host: '', outcome: result.stderr }]).map(
    ({ host, outcome }) => `${host} ${outcome}`,
  );
}
