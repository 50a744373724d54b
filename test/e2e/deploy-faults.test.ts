// What happens to a deploy when something dies in the middle: the client, the runner, the power, the network, the host's
// identity. Each test ends with a host on a proven system whose boot default is one too.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { DeployPhase } from '../../src/api/deploy-state.ts';
import type { DeployRequest } from '../../src/deploy/deploy-request.ts';
import { type DeployScene, openDeployScene } from './deploy-scene.ts';
import type { Fault } from './faulty-system.ts';
import type { WorldHost } from './lab/world-host.ts';
import { thorough, variation } from './variation.ts';

const FOLDER = '/var/lib/slipway/deploy';

describe('a deploy that is disturbed', { concurrency: 3 }, () => {
  let scene: DeployScene;
  before(async () => {
    scene = await openDeployScene(thorough ? 20 : 9);
  });
  after(async () => {
    await scene[Symbol.asyncDispose]();
  });

  const killings: readonly {
    readonly phase: DeployPhase;
    readonly faults: readonly Fault[];
    readonly health?: object;
    readonly end: DeployPhase;
    readonly reason: string;
  }[] = [
    { phase: 'ACTIVATING', faults: ['slow-activation'], end: 'ROLLED_BACK', reason: 'runner-died' },
    { phase: 'TRIAL', faults: [], health: { stable: 5 }, end: 'ROLLED_BACK', reason: 'runner-died' },
    { phase: 'COMMITTING', faults: ['slow-boot'], end: 'COMMITTED', reason: '' },
    { phase: 'ROLLING_BACK', faults: ['hangs'], end: 'ROLLED_BACK', reason: 'activation-timeout' },
  ];
  for (const { phase, faults, health = {}, end, reason } of killings) {
    const run = phase === 'COMMITTING' || phase === 'ACTIVATING' ? test : variation;
    run(`the dead-man resolves a runner that was killed in ${phase}`, async () => {
      const { host, old } = scene.takeHost();
      if (phase === 'ROLLING_BACK') await slowRollback(host);
      if (phase === 'TRIAL') await host.shell('ln -sfn bash /bin/sh'); // NixOS' sh
      const next = await scene.build(host, 'v2', { faults });
      const deploy = scene.start(host, next, { health, timeouts: { activation: 5 } });
      await scene.waitForPhase(host, phase);
      await killRunner(host);
      const outcome = await scene.outcome(deploy);
      assert.deepEqual([outcome.state?.phase, outcome.state?.reason], [end, reason], JSON.stringify(outcome));
      assert.deepEqual(outcome.state, await scene.state(host), 'the report equals the host');
      await scene.assertRuns(host, end === 'COMMITTED' ? next : old);
    });
  }

  variation('the dead-man resolves a runner that was killed in AWAIT_CONFIRM', async () => {
    const { host, old } = scene.takeHost();
    const deploy = await startUnconfirmed(scene, host, { confirm: 60 });
    await killRunner(host);
    const outcome = await scene.outcome(deploy.client);
    assert.deepEqual([outcome.kind, outcome.state?.reason], ['rolled-back', 'runner-died']);
    await scene.assertRuns(host, old);
  });

  variation('the dead-man stops a runner that hangs', async () => {
    const { host, old } = scene.takeHost();
    const { id, client } = await startUnconfirmed(scene, host, { confirm: 60 });
    await host.shell(`kill -STOP $(systemctl show -P MainPID slipway-activate-${id})
      systemctl start slipway-deadman-${id}.service`);
    const state = await scene.waitForPhase(host, 'ROLLED_BACK');
    assert.equal(state.reason, 'runner-died');
    await client.stop();
    await scene.assertRuns(host, old);
  });

  test('a client that is killed leaves a host that goes back by itself', async () => {
    const { host, old } = scene.takeHost();
    const deploy = scene.start(host, await scene.build(host, 'v2'), {
      health: { stable: 2 },
      timeouts: { confirm: 2 },
    });
    await deploy.waitForLine(/^phase trial/);
    deploy.kill('SIGKILL');
    const state = await scene.waitForPhase(host, 'ROLLED_BACK');
    assert.equal(state.reason, 'confirm-timeout');
    await scene.assertRuns(host, old);
    const left = await scene.world.run(['pgrep', '-fa', `ssh .*${host.address}`]);
    assert.equal(left.stdout.toString(), '', 'no connection outlives the client');
  });

  test('Ctrl-C tells the host to go back', async () => {
    const { host, old } = scene.takeHost();
    const next = await scene.build(host, 'v2');
    const to = ['--host', `root@${host.address}`, '--host-key', host.publicKey, '--toplevel', next];
    await scene.world.runText(['nix', 'copy', '--to', `ssh://root@${host.address}`, next]);
    const client = scene.world.start([`${scene.world.repository}/bin/slipway`, 'deploy', host.name, ...to]);
    await client.waitForLine(/trial/);
    await scene.world.runText(['pkill', '-INT', '-f', `^[^ ]*node .* deploy ${host.name} `]);
    const ended = await client.ended;
    assert.equal(ended?.code, 130, client.lines.join('\n'));
    const state = await scene.waitForPhase(host, 'ROLLED_BACK');
    assert.equal(state.reason, 'cancelled');
    await scene.assertRuns(host, old);
  });

  test('a power cut during the trial is a rollback', async () => {
    const { host, old } = scene.takeHost();
    const next = await scene.build(host, 'v2');
    const deploy = scene.start(host, next, { health: { stable: 10 } });
    await scene.waitForPhase(host, 'TRIAL');
    await host.powerCut();
    const outcome = await scene.outcome(deploy);
    assert.deepEqual([outcome.kind, outcome.state?.reason], ['rolled-back', 'rebooted-in-trial']);
    assert.deepEqual(outcome.state, await scene.state(host), 'the report equals the host');
    await scene.assertRuns(host, old);
    assert.match(await scene.quarantined(host), new RegExp(next));
  });

  for (const [phase, end, reason] of [
    ['PREPARED', 'REFUSED', 'interrupted'],
    ['TRIAL', 'ROLLED_BACK', 'rebooted-in-trial'],
  ] as const) {
    variation(
      `a host that lost its client and its power in ${phase} ends the deploy when it boots`,
      async () => {
        const { host, old } = scene.takeHost();
        const next = await scene.build(host, 'v2');
        if (phase === 'PREPARED')
          await host.shell(`mkdir -p /run/nixos
          systemd-run -q --collect --unit=lab-rebuild flock /run/nixos/switch-to-configuration.lock sleep 60`);
        const deploy = scene.start(host, next, { health: { stable: 30, timeout: 60 } });
        await scene.waitForPhase(host, phase);
        deploy.kill('SIGKILL');
        await host.powerCut();
        const state = await scene.waitForPhase(host, 'ROLLED_BACK', 'REFUSED');
        assert.deepEqual([state.phase, state.reason], [end, reason]);
        await scene.assertRuns(host, old);
      },
    );
  }

  test('a power cut while committing leaves profile and boot default on the same system', async () => {
    const { host, old } = scene.takeHost();
    const next = await scene.build(host, 'v2', { faults: ['slow-boot'] });
    const deploy = scene.start(host, next);
    await scene.waitForPhase(host, 'COMMITTING');
    await untilProfileIs(host, next);
    await host.powerCut();
    const outcome = await scene.outcome(deploy);
    assert.deepEqual([outcome.kind, outcome.state?.reason], ['rolled-back', 'rebooted-in-commit']);
    await scene.assertRuns(host, old);
    assert.equal(await scene.quarantined(host), '', 'the system was proven');
  });

  variation('a power cut after the boot loader took the new system ends committed', async () => {
    const { host } = scene.takeHost();
    const next = await scene.build(host, 'v2', { faults: ['slow-boot'] });
    const deploy = scene.start(host, next);
    await scene.waitForPhase(host, 'COMMITTING');
    await untilProfileIs(host, next);
    await host.shell(`echo ${next} >/boot/loader/default`);
    await host.powerCut();
    assert.equal((await scene.outcome(deploy)).kind, 'committed');
    await scene.assertRuns(host, next);
  });

  variation('the next deploy resolves one that nobody finished', async () => {
    const { host, old } = scene.takeHost();
    const { id, client } = await startUnconfirmed(scene, host, { confirm: 60 });
    await killClient(scene, host, client);
    await host.shell('mv /root/.ssh/off /root/.ssh/authorized_keys');
    await host.powerCut();
    assert.equal((await scene.state(host)).phase, 'AWAIT_CONFIRM', 'nobody resolved it yet');
    const third = await scene.build(host, 'v3');
    const outcome = await scene.deploy(host, third);
    assert.equal(outcome.kind, 'committed', JSON.stringify(outcome));
    assert.equal(outcome.state?.previous, old);
    const first = await host.shell(`cat ${FOLDER}/${id}/state.json`);
    assert.match(first, /"phase": "ROLLED_BACK"/);
    await scene.assertRuns(host, third);
  });

  variation('whoever waited for a deploy whose runner is killed undoes it first', async () => {
    const { host, old } = scene.takeHost();
    const first = await startUnconfirmed(scene, host, { confirm: 60 });
    const third = await scene.build(host, 'v3');
    await killClient(scene, host, first.client);
    await host.shell('mv /root/.ssh/off /root/.ssh/authorized_keys');
    const second = scene.start(host, third);
    await scene.waitForPhase(host, 'PREPARED');
    await killRunner(host, first.id);
    const outcome = await scene.outcome(second);
    assert.equal(outcome.kind, 'committed', JSON.stringify(outcome));
    assert.equal(outcome.state?.previous, old, 'it did not build on an unproven system');
    assert.match(await host.shell(`cat ${FOLDER}/${first.id}/state.json`), /"reason": "runner-died"/);
    await scene.assertRuns(host, third);
  });

  test('a disk that fills up during the activation does not corrupt the state', async () => {
    const { host } = scene.takeHost();
    await host.shell('mkdir -p /var/lib/slipway; mount -t tmpfs -o size=1m tmpfs /var/lib/slipway');
    const next = await scene.build(host, 'v2', { faults: ['slow-activation'] });
    const deploy = scene.start(host, next);
    await scene.waitForPhase(host, 'ACTIVATING');
    await host.exec(['dd', 'if=/dev/zero', 'of=/var/lib/slipway/filler', 'bs=4k']);
    const outcome = await scene.outcome(deploy);
    assert.equal(outcome.kind, 'committed', JSON.stringify(outcome));
    await scene.assertRuns(host, next);
    const refused = await scene.deploy(host, await scene.build(host, 'v3'));
    assert.match(refused.message ?? '', /no room|No space left/i);
    await scene.assertRuns(host, next);
  });

  variation('a confirmation with a wrong or a late token is refused', async () => {
    const { host, old } = scene.takeHost();
    const { id, client } = await startUnconfirmed(scene, host, { confirm: 5 });
    const confirm = `sh ${FOLDER}/${id}/activate.sh confirm ${FOLDER}/${id}`;
    const wrong = await host.exec(['sh', '-c', confirm], { input: 'stale\n' });
    assert.equal(wrong.code, 4);
    await scene.waitForPhase(host, 'ROLLED_BACK');
    const late = await host.exec(['sh', '-c', confirm], { input: 'stale\n' });
    assert.equal(late.code, 3);
    await client.stop();
    await scene.assertRuns(host, old);
  });

  test('a network that comes and goes does not lose the end of the story', async () => {
    const { host } = scene.takeHost();
    const next = await scene.build(host, 'v2');
    const deploy = scene.start(host, next, { health: { stable: 4 }, timeouts: { confirm: 40 } });
    await deploy.waitForLine(/^phase trial/);
    await host.cutNetwork();
    await deploy.waitForLine(/^log connection lost/);
    await host.restoreNetwork();
    const outcome = await scene.outcome(deploy);
    assert.equal(outcome.kind, 'committed', JSON.stringify(outcome));
    await scene.assertRuns(host, next);
  });

  test('a wrong host key, a dead address and a refused login change nothing and say why', async () => {
    const { host, old } = scene.takeHost();
    const next = await scene.build(host, 'v2');
    const other = scene.world.hosts.find((one) => one.publicKey !== host.publicKey);
    const mismatch = await scene.deploy(host, next, { hostKey: other?.publicKey ?? '' });
    assert.equal(mismatch.code, 'host_key_mismatch', JSON.stringify(mismatch));
    assert.match(mismatch.message ?? '', /showed SHA256:\S+, the fleet expects SHA256:\S+\.$/);
    const dead = await scene.deploy(host, next, { address: '10.77.0.250' });
    assert.equal(dead.code, 'host_unreachable');
    await host.shell('mv /root/.ssh/authorized_keys /root/keys');
    const locked = await scene.deploy(host, next);
    await host.shell('mv /root/keys /root/.ssh/authorized_keys');
    assert.equal(locked.code, 'unauthorized');
    assert.equal(await host.shell(`ls ${FOLDER} 2>/dev/null || true`), '');
    await scene.assertRuns(host, old);
  });
});

async function killRunner(host: WorldHost, id = '*'): Promise<void> {
  await host.shell(`systemctl kill --kill-who=main --signal=KILL 'slipway-activate-${id}.service'`);
}

/** A trial that waits for a confirmation which its client cannot give: sshd accepts no new login. */
async function startUnconfirmed(
  scene: DeployScene,
  host: WorldHost,
  timeouts: DeployRequest['timeouts'] & object,
): Promise<{ readonly id: string; readonly client: ReturnType<DeployScene['start']> }> {
  const next = await scene.build(host, 'v2');
  const client = scene.start(host, next, { timeouts, health: { stable: 1 } });
  await client.waitForLine(/^phase trial/);
  await host.shell('mv /root/.ssh/authorized_keys /root/.ssh/off');
  const { id } = await scene.waitForPhase(host, 'AWAIT_CONFIRM');
  return { id, client };
}

/** Kills the client and waits until the connections that it had begun are gone too. */
async function killClient(
  scene: DeployScene,
  host: WorldHost,
  client: ReturnType<DeployScene['start']>,
): Promise<void> {
  client.kill('SIGKILL');
  await scene.world.runText([
    'sh',
    '-c',
    'while pgrep -f "^ssh .*$0( |$)"; do sleep 0.05; done',
    host.address.replaceAll('.', '[.]'),
  ]);
}

async function untilProfileIs(host: WorldHost, path: string): Promise<void> {
  await host.shell(`until [ "$(readlink -f /nix/var/nix/profiles/system)" = ${path} ]; do sleep 0.02; done`);
}

/** Holds the lock of switch-to-configuration for a while, so that a rollback can be caught in the act. */
async function slowRollback(host: WorldHost): Promise<void> {
  await host.shell(`mkdir -p /run/systemd/system/slipway-switch-.service.d
    printf '[Service]\\nExecStartPre=/bin/sh -c "if grep -qs ROLLING_BACK ${FOLDER}/*/state.json; then sleep 2; fi"\\n' \\
      >/run/systemd/system/slipway-switch-.service.d/slow.conf
    systemctl daemon-reload`);
}
