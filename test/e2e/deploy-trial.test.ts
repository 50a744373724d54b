// Deploys over ssh to real hosts: what becomes permanent, what is refused, and what goes back by itself.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type DeployScene, openDeployScene } from './deploy-scene.ts';
import { movedAddress } from './faulty-system.ts';
import type { WorldHost } from './lab/world-host.ts';
import { variation } from './variation.ts';

describe('deployToHost()', { concurrency: 3 }, () => {
  let scene: DeployScene;
  before(async () => {
    scene = await openDeployScene(17);
  });
  after(async () => {
    await scene[Symbol.asyncDispose]();
  });

  test('makes a proven system permanent, then leaves it alone, and can go back', async () => {
    const { host, old } = scene.takeHost();
    const next = await scene.build(host, 'v2');
    const outcome = await scene.deploy(host, next);
    assert.equal(outcome.kind, 'committed', JSON.stringify(outcome));
    assert.equal(outcome.state?.generation, 2);
    assert.deepEqual(outcome.state, await scene.state(host), 'the report equals the host');
    await scene.assertRuns(host, next);
    assert.equal((await scene.deploy(host, next)).kind, 'unchanged');

    const to = ['--host', `root@${host.address}`, '--host-key', host.publicKey, '--json'];
    const listed = await scene.world.slipway(['generations', host.name, ...to]);
    const generations = JSON.parse(listed.stdout.toString()) as { generation: number; current: boolean }[];
    assert.deepEqual(
      generations.map(({ generation, current }) => [generation, current]),
      [
        [2, true],
        [1, false],
      ],
    );
    const back = await scene.world.slipway(['rollback', host.name, ...to]);
    assert.equal(back.code, 0, back.stdout.toString() + back.stderr);
    await scene.assertRuns(host, old);
    assert.equal((await scene.state(host)).generation, 1);
  });

  test('rolls back a system whose unit fails, and does not try it twice', async () => {
    const { host, old } = scene.takeHost();
    const bad = await scene.build(host, 'bad', { faults: ['unit-fails'] });
    const outcome = await scene.deploy(host, bad);
    assert.equal(outcome.code, 'deploy_rolled_back', JSON.stringify(outcome));
    assert.equal(outcome.state?.reason, 'health-failed');
    assert.match(outcome.state?.detail ?? '', /lab-app\.service/);
    await scene.assertRuns(host, old);
    const again = await scene.deploy(host, bad);
    assert.deepEqual([again.kind, again.reason], ['refused', 'quarantined']);
    const known = await scene.quarantined(host);
    await host.shell('mkdir /var/lib/slipway/.quarantine.new'); // what cannot be written is told, and spoils nothing
    const forced = await scene.deploy(host, bad, { force: true });
    assert.equal(forced.kind, 'rolled-back');
    assert.match(forced.state?.detail ?? '', /lab-app\.service.* It could not be quarantined: /);
    assert.deepEqual(forced.state, await scene.state(host), 'the report equals the host');
    assert.equal(await scene.quarantined(host), known);
    await scene.assertRuns(host, old);
  });

  test('rolls back a system that takes the host off the network, without anyone telling the host', async () => {
    const { host, old } = scene.takeHost();
    const bad = await scene.build(host, 'cut', { faults: ['cuts-network'] });
    const deploy = scene.start(host, bad, { timeouts: { confirm: 4 } });
    const waiting = await scene.waitForPhase(host, 'AWAIT_CONFIRM');
    const { current, profile, bootDefault } = await host.systems();
    assert.deepEqual([current, profile, bootDefault], [bad, old, old], 'the boot default was never touched');
    const outcome = await scene.outcome(deploy);
    assert.equal(outcome.code, 'deploy_rolled_back', JSON.stringify(outcome));
    assert.equal(outcome.state?.reason, 'confirm-timeout');
    assert.equal(outcome.state?.id, waiting.id);
    await scene.assertRuns(host, old);
    assert.equal(await scene.quarantined(host), '', 'a silent client is not the fault of the system');
  });

  test('rolls back when the activate script or a pre-switch check fails', async () => {
    const { host, old } = scene.takeHost();
    for (const [fault, exit] of [
      ['activate-fails', 2],
      ['check-fails', 1],
    ] as const) {
      const outcome = await scene.deploy(host, await scene.build(host, fault, { faults: [fault] }));
      assert.deepEqual(
        [outcome.kind, outcome.state?.reason, outcome.state?.activationExit],
        ['rolled-back', 'activation-failed', exit],
      );
      await scene.assertRuns(host, old);
    }
  });

  test('refuses what cannot be switched to live, before anything changes', async () => {
    const { host, old } = scene.takeHost();
    const systems = {
      'reboot-required': await scene.build(host, 'init', { faults: ['init-changed'] }),
      'wrong-host': await scene.build(host, 'other', { files: { 'etc/hostname': 'somebody-else\n' } }),
      'wrong-architecture': await scene.build(host, 'arm', { files: { system: 'riscv64-linux' } }),
      'secrets-unreadable': await scene.build(host, 'sealed', {
        files: { 'slipway/secrets': '/etc/hostname\n' },
      }),
    };
    const words: Record<string, RegExp> = {
      'reboot-required': /init interface differs/,
      'wrong-host': new RegExp(`for host somebody-else, this machine is ${host.name}`),
      'wrong-architecture': /for riscv64-linux, the host is x86_64/,
      'switch-inhibited': /a pre-switch check failed/,
      'secrets-unreadable': /cannot decrypt \/etc\/hostname/,
    };
    for (const [reason, toplevel] of Object.entries(systems)) {
      const outcome = await scene.deploy(host, toplevel);
      assert.deepEqual([outcome.kind, outcome.reason], ['refused', reason], JSON.stringify(outcome));
      assert.match(outcome.message ?? '', words[reason] ?? /^$/);
      assert.equal(outcome.code, 'deploy_refused');
    }
    const inhibited = await scene.build(host, 'inhibited', {
      faults: ['check-fails'],
      files: { 'switch-inhibitors': '{}' },
    });
    for (const [reboot, reason] of [
      ['later', 'reboot-required'],
      ['when-needed', 'no-boot-protection'],
    ] as const)
      assert.equal((await scene.deploy(host, inhibited, { reboot })).reason, reason);
    await scene.assertRuns(host, old);
  });

  test('goes back to the old generation when the boot loader cannot be installed', async () => {
    const { host, old } = scene.takeHost();
    const outcome = await scene.deploy(
      host,
      await scene.build(host, 'esp', { faults: ['bootloader-fails'] }),
    );
    assert.deepEqual([outcome.kind, outcome.state?.reason], ['rolled-back', 'bootloader-failed']);
    await scene.assertRuns(host, old);
    assert.equal(await host.shell('cd /nix/var/nix/profiles && echo system*'), 'system system-1-link');
  });

  test('ends an activation that hangs', async () => {
    const { host, old } = scene.takeHost();
    const bad = await scene.build(host, 'hang', { faults: ['hangs'] });
    const outcome = await scene.deploy(host, bad, { timeouts: { activation: 2 } });
    assert.deepEqual([outcome.kind, outcome.state?.reason], ['rolled-back', 'activation-timeout']);
    await scene.assertRuns(host, old);
    assert.equal(await host.shell('pgrep -x sleep || true'), '', 'nothing of it is left');
  });

  test('survives systemd executing itself anew and sshd restarting', async () => {
    const { host } = scene.takeHost();
    const next = await scene.build(host, 'reexec', { faults: ['reexecs', 'restarts-sshd'] });
    const outcome = await scene.deploy(host, next);
    assert.equal(outcome.kind, 'committed', JSON.stringify(outcome));
    await scene.assertRuns(host, next);
  });

  test('commits a system that moves its host, once it answers at its new address', async () => {
    const { host, old } = scene.takeHost();
    const next = await scene.build(host, 'v2', { faults: ['moves-address'] });
    const lost = await scene.deploy(host, next, { timeouts: { confirm: 6 } });
    assert.deepEqual([lost.kind, lost.state?.reason], ['rolled-back', 'confirm-timeout']);
    await scene.assertRuns(host, old);
    const confirmAt = { address: movedAddress(host.address), port: undefined, only: true };
    const moved = await scene.deploy(host, next, { confirmAt });
    assert.equal(moved.kind, 'committed', JSON.stringify(moved));
    assert.deepEqual(moved.state, await scene.state(host), 'the report equals the host');
    await scene.assertRuns(host, next);
    const back = await scene.deploy(host, old, {
      address: confirmAt.address,
      confirmAt: { address: host.address, port: undefined, only: false },
    });
    assert.equal(back.kind, 'committed', JSON.stringify(back));
    await scene.assertRuns(host, old);
  });

  test('commits a system whose sshd has another port, where the command line says so', async () => {
    const { host } = scene.takeHost();
    const next = await scene.build(host, 'v2', { faults: ['moves-port'] });
    const to = ['--host', `root@${host.address}`, '--host-key', host.publicKey, '--toplevel', next, '--json'];
    const result = await scene.world.slipway([
      'deploy',
      host.name,
      ...to,
      '--confirm-host',
      `${host.address}:2222`,
    ]);
    assert.equal(result.code, 0, result.stdout.toString() + result.stderr);
    await scene.assertRuns(host, next);
  });

  test('waits for a nixos-rebuild that is at work, and gives up when that takes too long', async () => {
    const { host, old } = scene.takeHost();
    const next = await scene.build(host, 'v2');
    const lock = 'flock /run/nixos/switch-to-configuration.lock sleep';
    await host.shell(`setsid ${lock} 600 >/dev/null 2>&1 </dev/null &`);
    const refused = await scene.deploy(host, next, { timeouts: { lock: 1 } });
    assert.deepEqual([refused.kind, refused.reason], ['refused', 'lock-held']);
    await scene.assertRuns(host, old);
    const waiting = scene.start(host, next);
    await scene.waitForPhase(host, 'PREPARED');
    await host.shell('pkill -x sleep');
    assert.equal((await scene.outcome(waiting)).kind, 'committed');
    await scene.assertRuns(host, next);
  });

  test('does not commit over a profile that somebody moved during the trial', async () => {
    const { host, old } = scene.takeHost();
    const next = await scene.build(host, 'v2');
    const deploy = scene.start(host, next, { health: { stable: 3 } });
    await scene.waitForPhase(host, 'TRIAL');
    const other = await host.shell(`cp -r ${old} /root/nixos-system-other
      p=$(nix store add-path /root/nixos-system-other); nix-env -p /nix/var/nix/profiles/system --set $p; echo $p`);
    const outcome = await scene.outcome(deploy);
    assert.deepEqual(
      [outcome.kind, outcome.state?.reason],
      ['rolled-back', 'conflict'],
      JSON.stringify(outcome),
    );
    const { current, profile } = await host.systems();
    assert.deepEqual([current, profile], [old, other], 'their profile is theirs');
  });

  test('lets a second deploy wait for the first', async () => {
    const { host } = scene.takeHost();
    const second = await scene.build(host, 'v2');
    const third = await scene.build(host, 'v3', { faults: ['slow-activation'] });
    const first = scene.start(host, third);
    await first.waitForLine(/^phase activating/);
    const outcome = await scene.deploy(host, second);
    assert.equal((await scene.outcome(first)).kind, 'committed');
    assert.equal(outcome.kind, 'committed', JSON.stringify(outcome));
    assert.equal(outcome.state?.previous, third, 'it started from what the first one proved');
    await scene.assertRuns(host, second);
  });

  test('excuses a check that failed before, and says that the host is not well', async () => {
    const { host } = scene.takeHost();
    const next = await scene.build(host, 'v2');
    const outcome = await scene.deploy(host, next, { health: { tcp: [{ port: 9 }], commands: ['true'] } });
    assert.equal(outcome.code, 'deploy_degraded', JSON.stringify(outcome));
    assert.match(outcome.state?.detail ?? '', /tcp 127\.0\.0\.1 9/);
    await scene.assertRuns(host, next);
    const later = await scene.build(host, 'v3');
    const health = { commands: ['true', 'test -e /nowhere'], timeout: 2 };
    const strict = await scene.deploy(host, later, { health });
    assert.equal(strict.code, 'deploy_rolled_back', 'a check that came with this deploy counts');
  });

  test('says that a reboot is needed for a new kernel', async () => {
    const { host } = scene.takeHost();
    const next = await scene.build(host, 'v2', { files: { kernel: 'another kernel\n' } });
    const outcome = await scene.deploy(host, next, { reboot: 'later' });
    assert.equal(outcome.kind, 'committed', JSON.stringify(outcome));
    assert.equal(outcome.state?.rebootRequired, true);
    await host.reboot();
    await scene.assertRuns(host, next);
  });

  for (const shell of ['busybox', 'bash']) {
    // bash is what NixOS has as /bin/sh; all other tests run with Debian's dash
    const run = shell === 'bash' ? test : variation;
    run(`runs as well when sh is ${shell}`, async () => {
      const { host } = scene.takeHost();
      await useShell(host, shell);
      const next = await scene.build(host, 'v2');
      const good = await scene.deploy(host, next);
      const bad = await scene.deploy(host, await scene.build(host, 'bad', { faults: ['unit-fails'] }));
      const cut = await scene.deploy(host, await scene.build(host, 'slow', { faults: ['bootloader-fails'] }));
      await useShell(host, 'dash');
      assert.equal(good.kind, 'committed', JSON.stringify(good));
      assert.equal(bad.kind, 'rolled-back', JSON.stringify(bad));
      assert.equal(cut.state?.reason, 'bootloader-failed', JSON.stringify(cut));
      await scene.assertRuns(host, next);
    });
  }
});

async function useShell(host: WorldHost, shell: string): Promise<void> {
  await host.shell(`ln -sf /bin/${shell} /bin/sh.new && mv -fT /bin/sh.new /bin/sh`);
}
