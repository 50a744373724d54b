import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SlipwayError } from '../util/errors.ts';
import type { DeployOutcome } from './deploy-outcome.ts';
import { type RolloutHost, type RolloutPolicy, runRollout } from './run-rollout.ts';

const POLICY: RolloutPolicy = { concurrency: 2, maxFailures: undefined, onFailure: 'stop', offline: 'fail' };

/** Hosts named `ok…` do nothing, `bad…` fail, `off…` are offline, `late…` are so at first. */
class Fleet {
  readonly tried: string[] = [];
  readonly takenBack: string[] = [];
  atOnce = 0;
  most = 0;

  host(name: string): RolloutHost {
    return {
      name,
      deploy: async () => {
        this.most = Math.max(this.most, ++this.atOnce);
        await sleep(2);
        this.atOnce--;
        this.tried.push(name);
        const back = name.startsWith('late') && this.tried.filter((one) => one === name).length > 1;
        return [back ? outcome(`ok${name}`) : outcome(name)];
      },
      takeBack: async () => {
        await Promise.resolve();
        this.takenBack.push(name);
        return [outcome(name)];
      },
    };
  }

  async run(waves: string[][], policy: Partial<RolloutPolicy> = {}): Promise<string[]> {
    const hosts = waves.map((wave) => wave.map((name) => this.host(name)));
    const outcomes = await runRollout(hosts, { ...POLICY, ...policy }, new AbortController().signal);
    return outcomes.map(({ kind }) => kind);
  }
}

function outcome(host: string): DeployOutcome {
  if (host.startsWith('ok')) return { kind: 'unchanged', host, toplevel: '' };
  if (host.startsWith('bad')) return { kind: 'refused', host, reason: 'r', detail: '' };
  return { kind: 'unreachable', host, id: '', error: new SlipwayError('host_unreachable', 'no') };
}

test('runRollout() isolates failures within a wave and holds back the waves after it', async () => {
  const fleet = new Fleet();
  assert.deepEqual(await fleet.run([['ok1', 'bad', 'ok2', 'ok3'], ['ok4']]), [
    'unchanged',
    'refused',
    'unchanged',
    'unchanged',
    'held-back',
  ]);
  assert.equal(fleet.most, 2, 'never more at a time than asked for');
});

test('runRollout() goes on, stops at its budget, or takes back, as it is told', async () => {
  const waves = [['bad1', 'ok1'], ['bad2', 'ok2'], ['ok3']];
  assert.equal((await new Fleet().run(waves, { onFailure: 'continue' })).at(-1), 'unchanged');
  const budget = await new Fleet().run(waves, { maxFailures: 1 });
  assert.deepEqual(budget.slice(2), ['refused', 'unchanged', 'held-back']);
  const strict = await new Fleet().run([['bad1', 'ok1', 'ok2']], { maxFailures: 0, concurrency: 1 });
  assert.deepEqual(strict, ['refused', 'held-back', 'held-back'], 'a budget that is named counts at once');
  const fleet = new Fleet();
  await fleet.run(waves, { onFailure: 'rollback' });
  assert.deepEqual(fleet.takenBack, ['bad1', 'ok1', 'bad2', 'ok2', 'ok3']);
});

test('runRollout() skips, defers or counts hosts that are offline', async () => {
  assert.deepEqual(await new Fleet().run([['off'], ['ok']], { offline: 'skip' }), ['skipped', 'unchanged']);
  assert.deepEqual(await new Fleet().run([['off'], ['ok']], { offline: 'fail' }), [
    'unreachable',
    'held-back',
  ]);
  const fleet = new Fleet();
  assert.deepEqual(await fleet.run([['late', 'off'], ['ok']], { offline: 'defer' }), [
    'unchanged',
    'failed',
    'unchanged',
  ]);
  assert.deepEqual(
    fleet.tried.slice(0, 3).toSorted(),
    ['late', 'off', 'ok'],
    'they are tried again at the end',
  );
});

test('runRollout() waits for every host when it is aborted', async () => {
  const controller = new AbortController();
  let ended = 0;
  const host = (name: string): RolloutHost => ({
    name,
    deploy: async () => {
      await sleep(5);
      controller.abort();
      await sleep(name === 'a' ? 1 : 5);
      ended++;
      throw new SlipwayError('cancelled', 'stopped');
    },
    takeBack: async (outcomes) => await Promise.resolve([...outcomes]),
  });
  await assert.rejects(runRollout([[host('a'), host('b')]], POLICY, controller.signal));
  assert.equal(ended, 2);
});
