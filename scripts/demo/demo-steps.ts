// The steps of the demo, in order: each acts as a person would and then looks at the hosts themselves, not at what
// Slipway says about them.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { sleep, within } from '../../src/util/deadline.ts';
import type { DemoScene } from './demo-scene.ts';
import { findLeaks } from './find-leaks.ts';
import { formatBreakdown } from './push-breakdown.ts';
import type { DemoStep } from './run-steps.ts';

const COMMIT_TIMEOUT_MS = 60_000;
/** pi1 polls every second. */
const TWO_POLLS_MS = 2_200;
const AGENT_STATE = '/var/lib/slipway/agent/state.json';

export const FLEET_UP: DemoStep = {
  name: 'fleet-up',
  title: 'Three hosts boot their own systemd, and Slipway starts beside a git forge',
  run: async (scene) => {
    await scene.rise();
    for (const host of scene.world.hosts) assert.equal((await scene.fleet.hello(host.name)).version, '0.0.0');
    return [`status page ${scene.pageUrl ?? ''}`, 'hello 0.0.0 answers on web1, pi1 and forge1'];
  },
};

export const DEMO_STEPS: readonly DemoStep[] = [
  {
    name: 'first-push',
    title: 'git push: live on web1 (push) and pi1 (pull)',
    run: async (scene) => {
      const started = performance.now();
      const commit = await scene.push();
      const pushed = performance.now();
      const run = await scene.waitForRun(commit);
      assert.equal(run.state, 'done', run.note);
      const ran = performance.now();
      await Promise.all([untilCommitted(scene, 'web1'), untilCommitted(scene, 'pi1')]);
      const ended = performance.now();
      await assertServes(scene, 'web1', '1.0.0');
      await assertServes(scene, 'pi1', '1.0.0');
      const times = { started, pushed, ran, ended };
      scene.breakdown = formatBreakdown(times, await scene.runEvents(run.id));
      return ['hello 1.0.0 answers, the secret is readable, profile and boot default are the new system'];
    },
  },
  {
    name: 'one-host-change',
    title: 'A change to web1 rebuilds and redeploys web1 alone',
    run: async (scene) => {
      const before = await scene.manifest();
      const pi1 = await deploysOn(scene, 'pi1');
      await scene.fleet.setVersion('web1', '1.1.0');
      const run = await scene.waitForRun(await scene.push('A newer hello on web1'));
      assert.equal(run.state, 'done', run.note);
      await untilCommitted(scene, 'web1');
      const after = await scene.manifest();
      assert.notEqual(after.hosts['web1']?.toplevel, before.hosts['web1']?.toplevel);
      assert.equal(after.hosts['pi1']?.toplevel, before.hosts['pi1']?.toplevel);
      await assertServes(scene, 'web1', '1.1.0');
      assert.equal(await deploysOn(scene, 'pi1'), pi1);
      return ['web1 answers 1.1.0; pi1 was not touched'];
    },
  },
  {
    name: 'nothing-to-do',
    title: 'The same run again does nothing and says why',
    run: async (scene) => {
      const before = await scene.manifest();
      const known = new Set((await scene.status()).runs.map((run) => run.id));
      const head = await scene.fleet.git('rev-parse', 'HEAD');
      await scene.startRun(head);
      const run = await scene.waitForRun(head, known);
      assert.equal(run.state, 'nothing-to-do', run.note);
      assert.deepEqual(await scene.manifest(), before);
      return [`"${run.note}"`];
    },
  },
  {
    name: 'network-rollback',
    title: 'A push takes pi1 off the network: it comes back by itself and refuses that system from now on',
    run: async (scene) => {
      const pi1 = scene.world.host('pi1');
      const before = await pi1.systems();
      await scene.fleet.setBroken('pi1', 'network');
      await scene.waitForRun(await scene.push('A firewall rule on pi1 that looked harmless'));
      const bad = (await scene.manifest()).hosts['pi1']?.toplevel ?? '';
      assert.notEqual(bad, before.profile);
      const entry = await untilQuarantined(scene, bad);
      assert.deepEqual(await pi1.systems(), before);
      await assertServes(scene, 'pi1', '1.0.0');
      const deploys = await deploysOn(scene, 'pi1');
      await sleep(TWO_POLLS_MS, scene.signal);
      assert.equal(await deploysOn(scene, 'pi1'), deploys);
      return [
        `"${entry.reason}: ${entry.detail}"`,
        'pi1 answers 1.0.0 again; profile and boot default never changed; it does not try that system again',
      ];
    },
  },
  {
    name: 'unit-rollback',
    title: 'A push whose service does not start on web1 rolls back by itself',
    run: async (scene) => {
      const web1 = scene.world.host('web1');
      const before = await web1.systems();
      await scene.fleet.setBroken('pi1');
      await scene.fleet.setBroken('web1', 'hello');
      const run = await scene.waitForRun(await scene.push('Mend pi1, break hello on web1'));
      assert.equal(run.state, 'failed', run.note);
      assert.match(run.problem?.code ?? '', /^deploy_rolled_back$/);
      assert.deepEqual(await web1.systems(), before);
      await assertServes(scene, 'web1', '1.1.0');
      return [`"${run.problem?.message ?? ''}"`];
    },
  },
  {
    name: 'rollback-command',
    title: 'slipway rollback web1 goes back to the generation before',
    run: async (scene) => {
      const web1 = scene.world.host('web1');
      const before = await web1.systems();
      const args = ['rollback', 'web1', '--flake', scene.fleet.checkout];
      const { code, stderr, stdout } = await scene.world.slipway(args);
      assert.equal(code, 0, stderr + stdout.toString());
      const after = await web1.systems();
      assert.notEqual(after.profile, before.profile);
      assert.deepEqual([after.current, after.bootDefault], [after.profile, after.profile]);
      await web1.reboot();
      await assertServes(scene, 'web1', '1.0.0');
      return ['web1 answers 1.0.0, also after a reboot'];
    },
  },
  {
    name: 'manual-host',
    title: 'The manual host never moved',
    run: async (scene) => {
      assert.equal(await deploysOn(scene, 'forge1'), '');
      assert.equal((await scene.fleet.hello('forge1')).version, '0.0.0');
      return ['forge1 still answers 0.0.0'];
    },
  },
  {
    name: 'no-secret-leaked',
    title: 'No log, database, store, git object or page holds the secret',
    run: async (scene) => {
      assert.deepEqual(await findLeaks(scene, scene.fleet.canary), []);
      return [
        'searched: the server, its database and packs, every git object, the stores, journals and disks of the hosts',
      ];
    },
  },
];

/** Waits until a host's running system, profile and boot default are what the newest release wants. */
async function untilCommitted(scene: DemoScene, name: string): Promise<void> {
  const wanted = (await scene.manifest()).hosts[name]?.toplevel ?? '';
  const host = scene.world.host(name);
  await within(COMMIT_TIMEOUT_MS, `${name} taking ${wanted}`, async (signal) => {
    for (;;) {
      const { current, profile, bootDefault } = await host.systems();
      if ([current, profile, bootDefault].every((path) => path === wanted)) return;
      await sleep(100, AbortSignal.any([signal, scene.signal]));
    }
  });
}

async function assertServes(scene: DemoScene, name: string, version: string): Promise<void> {
  const hello = await scene.fleet.hello(name);
  const secret = createHash('sha256')
    .update(scene.fleet.plaintext(`${name}-hello`))
    .digest('hex');
  assert.deepEqual([hello.host, hello.version, hello.secret], [name, version, secret]);
}

/** The deploys that a host knows of. */
async function deploysOn(scene: DemoScene, name: string): Promise<string> {
  return await scene.world.host(name).shell('ls /var/lib/slipway/deploy 2>/dev/null || true');
}

interface QuarantineEntry {
  readonly toplevel: string;
  readonly reason: string;
  readonly detail: string;
}

async function untilQuarantined(scene: DemoScene, toplevel: string): Promise<QuarantineEntry> {
  const pi1 = scene.world.host('pi1');
  return await within(COMMIT_TIMEOUT_MS, 'pi1 putting the bad system into quarantine', async (signal) => {
    for (;;) {
      const state = JSON.parse(await pi1.execText(['cat', AGENT_STATE])) as {
        readonly quarantine: readonly QuarantineEntry[];
        readonly trial?: unknown;
      };
      const entry = state.quarantine.find((one) => one.toplevel === toplevel);
      if (entry && !state.trial) return entry;
      await sleep(200, AbortSignal.any([signal, scene.signal]));
    }
  });
}
