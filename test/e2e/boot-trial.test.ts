// Systems that need a reboot: tried once by the boot loader, made permanent only there; every end is a good system with
// a good boot default.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { DeployPhase } from '../../src/api/deploy-state.ts';
import { type BootScene, openBootScene } from './boot-scene.ts';
import type { Fault } from './faulty-system.ts';
import { thorough, variation } from './variation.ts';

describe('a boot trial', { concurrency: 3 }, () => {
  let scene: BootScene;
  before(async () => {
    scene = await openBootScene(thorough ? 13 : 5);
  });
  after(async () => {
    await scene[Symbol.asyncDispose]();
  });

  /** A system whose checks fail once it was booted; answers why the host went back. */
  async function failInTrial(fault: Fault): Promise<string> {
    const place = await scene.takeHost();
    const bad = await scene.build(place.host, 'bad', [fault]);
    const outcome = await scene.deploys.deploy(place.host, bad);
    assert.deepEqual(
      [outcome.code, outcome.state?.reason],
      ['deploy_rolled_back', 'health-failed'],
      JSON.stringify(outcome),
    );
    await scene.assertRuns(place, place.old);
    return outcome.state?.detail ?? '';
  }

  for (const names of ['generations', 'hashes']) {
    const run = names === 'generations' ? test : variation;
    run(`makes a new kernel permanent once it was booted and confirmed (entries by ${names})`, async () => {
      const place = await scene.takeHost();
      const next = await scene.build(place.host, 'v2', [], names);
      const client = scene.deploys.start(place.host, next);
      const outcome = await scene.deploys.outcome(client);
      assert.equal(outcome.kind, 'committed', `${JSON.stringify(outcome)}\n${client.lines.join('\n')}`);
      assert.equal(outcome.state?.rebootRequired, false);
      assert.deepEqual(outcome.state, await scene.deploys.state(place.host), 'the report equals the host');
      await scene.assertRuns(place, next);
      const boots = await place.host.shell('cat /var/log/boots');
      assert.match(
        boots,
        /^nixos-generation-1\.conf\nslipway-trial-\w+\.conf$/,
        'one boot, by the one-shot entry',
      );
      await place.host.reboot();
      await scene.assertRuns(place, next);
    });
  }

  test('falls back when the kernel panics, says so, and does not try it twice', async () => {
    const place = await scene.takeHost();
    const bad = await scene.build(place.host, 'panic', ['kernel-panics']);
    const outcome = await scene.deploys.deploy(place.host, bad);
    assert.deepEqual(
      [outcome.code, outcome.state?.reason],
      ['deploy_rolled_back', 'fell-back'],
      JSON.stringify(outcome),
    );
    await scene.assertRuns(place, place.old);
    assert.match(await scene.deploys.quarantined(place.host), / fell-back /);
    assert.equal((await scene.deploys.deploy(place.host, bad)).reason, 'quarantined');
  });

  test('goes back by a reboot when the booted system is not healthy', async () => {
    assert.match(await failInTrial('unit-fails'), /lab-app\.service/);
  });

  variation('goes back when a check that stands before boot-complete.target fails', async () => {
    assert.match(await failInTrial('boot-check-fails'), /boot-complete\.target was not reached/);
  });

  variation('goes back when the boot never gets as far as its trial', async () => {
    const place = await scene.takeHost();
    const bad = await scene.build(place.host, 'hang', ['boot-hangs']);
    const timeouts = { boot: 3, confirm: 1, commit: 1 };
    const outcome = await scene.deploys.deploy(place.host, bad, { timeouts, health: { timeout: 1 } });
    assert.deepEqual(
      [outcome.kind, outcome.state?.reason],
      ['rolled-back', 'boot-timeout'],
      JSON.stringify(outcome),
    );
    await scene.assertRuns(place, place.old);
  });

  variation('goes back when nobody confirms, and a new client follows it there', async () => {
    const place = await scene.takeHost();
    const next = await scene.build(place.host, 'v2');
    const client = scene.deploys.start(place.host, next, { timeouts: { confirm: 10 } });
    await client.waitForLine(/^phase rebooting/, 30_000);
    client.kill('SIGKILL');
    await scene.deploys.waitForPhase(place.host, 'BOOT_TRIAL', 'AWAIT_CONFIRM');
    const to = ['--host', `root@${place.host.address}`, '--host-key', place.host.publicKey, '--json'];
    const resumed = await scene.deploys.world.slipway(['deploy', 'resume', place.host.name, ...to]);
    assert.equal(resumed.code, 10, resumed.stdout.toString() + resumed.stderr);
    const state = await scene.deploys.waitForPhase(place.host, 'ROLLED_BACK');
    assert.equal(state.reason, 'confirm-timeout');
    await scene.assertRuns(place, place.old);
  });

  const CUTS: readonly [at: DeployPhase, when: string, ends: DeployPhase, reason: string][] = [
    ['STAGING', '', 'ROLLED_BACK', 'interrupted'],
    ['BOOT_TRIAL', '', 'ROLLED_BACK', 'rebooted-in-trial'],
    ['COMMITTING', 'before its default is written', 'ROLLED_BACK', 'rebooted-in-commit'],
    ['COMMITTING', 'after its default is written', 'COMMITTED', ''],
  ];
  for (const [at, when, ends, reason] of CUTS) {
    const run = at === 'BOOT_TRIAL' ? test : variation;
    run(`survives a power cut in ${at} ${when}`, async () => {
      const place = await scene.takeHost();
      const { host, old } = place;
      const next = await scene.build(host, 'v2', ['slow-boot']);
      if (at === 'STAGING') await host.shell('touch /run/slow-boot');
      const client = scene.deploys.start(host, next, { health: { stable: 3 } });
      await scene.deploys.waitForPhase(host, at);
      if (when.startsWith('after'))
        await host.shell(`until [ "$(cat /boot/loader/default)" != ${old} ]; do sleep 0.05; done`);
      await host.powerCut();
      const outcome = await scene.deploys.outcome(client);
      const state = await scene.deploys.state(host);
      assert.deepEqual(outcome.state, state, 'the report equals the host');
      assert.deepEqual([state.phase, state.reason], [ends, reason], JSON.stringify(outcome));
      await scene.assertRuns(place, ends === 'COMMITTED' ? next : old);
    });
  }

  test('is refused where a failed boot could not be undone, and --reboot later switches live', async () => {
    const { host, old } = scene.deploys.takeHost();
    const next = await scene.build(host, 'v2');
    const refused = await scene.deploys.deploy(host, next);
    assert.deepEqual(
      [refused.kind, refused.reason],
      ['refused', 'no-boot-protection'],
      JSON.stringify(refused),
    );
    await scene.deploys.assertRuns(host, old);
    const live = await scene.deploys.deploy(host, next, { reboot: 'later' });
    assert.equal(live.kind, 'committed', JSON.stringify(live));
    assert.equal(live.state?.rebootRequired, true);
    const never = await scene.deploys.deploy(host, await scene.build(host, 'v3'), { reboot: 'never' });
    assert.equal(never.reason, 'reboot-required');
  });

  variation('is refused where the boot loader would not keep the old system', async () => {
    const { host } = await scene.takeHost();
    const keeper = await scene.deploys.build(host, 'v2', { faults: ['one-entry'] });
    assert.equal((await scene.deploys.deploy(host, keeper)).kind, 'committed');
    const refused = await scene.deploys.deploy(host, await scene.build(host, 'v3'));
    assert.equal(refused.reason, 'no-boot-fallback', JSON.stringify(refused));
    assert.equal(await host.shell('ls /nix/var/nix/profiles | grep -c link'), '2', 'its generation is gone');
  });
});
