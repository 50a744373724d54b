// `make test-faults`: deploys to real booted hosts, each disturbed in one way at one state. Each must end on a healthy
// system with a good boot default, and what the client reports must be what the host has on disk.
// Usage: fault-suite-main.ts [--count 200] [--hosts 6] [--seed N] [--only WORDS] [--skip N]
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import type { Hooks } from '../../src/api/deploy-hooks.ts';
import { type DeployState, isFinal } from '../../src/api/deploy-state.ts';
import { deadline, sleep } from '../../src/util/deadline.ts';
import { seededRandom } from '../contract/seeded-random.ts';
import { type DeployScene, openDeployScene, type Outcome } from './deploy-scene.ts';
import { listScenarios, type Scenario } from './fault-scenarios.ts';
import { movedAddress } from './faulty-system.ts';
import type { WorldHost } from './lab/world-host.ts';
import type { WorldProcess } from './lab/world-process.ts';

const SCENARIO_TIMEOUT_MS = 150_000;
const KEYS = '/root/.ssh/authorized_keys';

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '200' },
    hosts: { type: 'string', default: '6' },
    seed: { type: 'string', default: String(randomInt(1_000_000)) },
    only: { type: 'string', default: '' },
    skip: { type: 'string', default: '0' },
  },
});
/** What the client of a failed deploy saw. */
const lastClient = new Map<string, WorldProcess>();

process.exitCode = await runSuite(values);

/** `skip` leaves out the first of a seed's deploys: a long run in portions. */
async function runSuite(asked: typeof values): Promise<number> {
  const [hosts, seed, skip] = [Number(asked.hosts), Number(asked.seed), Number(asked.skip)];
  const count = Number(asked.count) - skip;
  const started = performance.now();
  process.stdout.write(`seed ${seed}\n`);
  const random = seededRandom(seed);
  const queue = drawScenarios(Number(asked.count), random, asked.only).slice(skip);
  await using scene = await openDeployScene(hosts);
  const failures: string[] = [];
  let done = 0;
  const lane = async (): Promise<void> => {
    const { host, old } = scene.takeHost();
    let current = old;
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { index, scenario, delay } = next;
      const since = performance.now();
      try {
        current = await within(runScenario(scene, { host, old: current, index, scenario, delay }));
        done++;
        report('ok', next, `${host.name} ${Math.round(performance.now() - since)} ms`);
      } catch (error) {
        failures.push(`${index} ${scenario.name}`);
        report('FAILED', next, `${host.name}: ${error instanceof Error ? error.message : String(error)}`);
        process.stdout.write(await hostStory(host));
        for (const line of lastClient.get(host.name)?.lines.slice(-15) ?? [])
          process.stdout.write(`client: ${line}\n`);
        return; // a host that is not what it should be says nothing about the next deploy
      }
    }
  };
  await Promise.all(scene.world.hosts.map(async () => await lane()));
  const seconds = Math.round((performance.now() - started) / 1000);
  for (const failure of failures) process.stdout.write(`failed: ${failure}\n`);
  process.stdout.write(`${done} of ${count} (${seconds} s, ${hosts} hosts, seed ${seed})\n`);
  return done === count ? 0 : 1;
}

interface Drawn {
  readonly index: number;
  readonly scenario: Scenario;
  readonly delay: number;
}

/** Every scenario once before any comes twice, in an order that the seed decides. */
function drawScenarios(count: number, random: () => number, only: string): Drawn[] {
  const drawn: Drawn[] = [];
  const all = listScenarios().filter(({ name }) => name.includes(only));
  while (drawn.length < count && all.length > 0) {
    const round = all.map((scenario) => ({ scenario, at: random() })).toSorted((a, b) => a.at - b.at);
    for (const { scenario } of round)
      drawn.push({ index: drawn.length + 1, scenario, delay: Math.floor(random() * 3_000) });
  }
  return drawn.slice(0, count);
}

interface Run extends Drawn {
  readonly host: WorldHost;
  readonly old: string;
}

/** Answers the system that the host runs afterwards; throws when anything is not as it should be. */
async function runScenario(scene: DeployScene, run: Run): Promise<string> {
  const { host, old, index, scenario, delay } = run;
  const next = await scene.build(host, `s${index}`, { faults: scenario.faults });
  await scenario.prepare?.(host);
  const before = await newestId(host);
  const client = scene.start(host, next, {
    health: { stable: scenario.at === 'TRIAL' ? 4 : 1, timeout: 10 },
    timeouts: { activation: 8, confirm: confirmSeconds(scenario), lock: 25 },
    ...(scenario.hook !== undefined && { hooks: beforeHook(scenario.hook) }),
    ...(scenario.moves === true && {
      confirmAt: { address: movedAddress(host.address), port: undefined, only: true },
    }),
  });
  if (scenario.at !== undefined && scenario.disturb !== undefined) {
    if (scenario.at === 'AWAIT_CONFIRM') await lockOut(host, client);
    await untilNewPhase(scene, { host, before, phase: scenario.at, client });
    await scenario.disturb({ scene, host, client, old, delay });
  }
  lastClient.set(host.name, client);
  const state = await untilFinal(host, before, scenario.silent === true);
  if (scenario.silent === true) await host.shell(`[ ! -e ${KEYS}.off ] || mv ${KEYS}.off ${KEYS}`);
  else assertReport(await scene.outcome(client), state);
  return await assertEnd(scene, run, { next, state: await finalState(host, state) });
}

/** A move is found out by a connection that went silent, and that takes its time. */
function confirmSeconds({ at, moves }: Scenario): number {
  if (moves === true) return 30;
  return at === 'AWAIT_CONFIRM' ? 15 : 10;
}

function beforeHook(command: string): Hooks {
  return { before: [{ name: 'backup', command, timeout: 20, on: 'host' }], after: [] };
}

/** The report was taken when it was written: read again what the host has now. */
async function finalState(host: WorldHost, state: DeployState): Promise<DeployState> {
  return (await readState(host, state.id)) ?? state;
}

async function assertEnd(
  scene: DeployScene,
  { host, old, scenario }: Run,
  { next, state }: { readonly next: string; readonly state: DeployState },
): Promise<string> {
  assert.ok(scenario.ends.includes(state.phase), `it ended ${state.phase} ${state.reason}: ${state.detail}`);
  const expected = state.phase === 'COMMITTED' ? next : old;
  if (scenario.foreignProfile === true) {
    const { current, bootDefault } = await host.systems();
    assert.deepEqual({ current, bootDefault }, { current: expected, bootDefault: expected });
  }
  await scenario.cleanUp?.(host, old);
  await scene.assertRuns(host, expected);
  const systemd = await host.exec(['systemctl', 'is-failed', 'lab-app.service']);
  assert.notEqual(systemd.code, 0, 'its unit has not failed');
  return expected;
}

function assertReport(outcome: Outcome, state: DeployState): void {
  if (outcome.kind === 'refused') return assert.equal(outcome.reason, state.reason, JSON.stringify(outcome));
  assert.deepEqual(outcome.state, state, `the report equals the host: ${JSON.stringify(outcome)}`);
}

/** From the trial on no new login works, so nobody confirms. */
async function lockOut(host: WorldHost, client: WorldProcess): Promise<void> {
  await client.waitForLine(/^phase trial/, 60_000);
  await host.shell(`mv ${KEYS} ${KEYS}.off`);
}

async function untilNewPhase(
  _scene: DeployScene,
  what: {
    readonly host: WorldHost;
    readonly before: string;
    readonly phase: DeployState['phase'];
    readonly client: WorldProcess;
  },
): Promise<void> {
  const signal = deadline(60_000);
  for (;;) {
    signal.throwIfAborted();
    const id = await newestId(what.host);
    const state = id === what.before ? undefined : await readState(what.host, id);
    if (state?.phase === what.phase) return;
    assert.ok(
      state === undefined || !isFinal(state.phase),
      `${what.phase} was never met: ${state?.phase} ${state?.reason}; ${what.client.lines.slice(-3).join(' | ')}`,
    );
    await sleep(30);
  }
}

/** The host resolves it by itself, or its client does; with neither, the next boot's agent would: `recover`. */
async function untilFinal(host: WorldHost, before: string, silent: boolean): Promise<DeployState> {
  const signal = deadline(120_000);
  for (;;) {
    signal.throwIfAborted();
    const id = await newestId(host).catch(() => before);
    const state = id === before ? undefined : await readState(host, id);
    if (state !== undefined && isFinal(state.phase)) return state;
    await sleep(silent ? 200 : 100);
  }
}

async function newestId(host: WorldHost): Promise<string> {
  return await host.shell('ls /var/lib/slipway/deploy 2>/dev/null | tail -n 1');
}

async function readState(host: WorldHost, id: string): Promise<DeployState | undefined> {
  try {
    return JSON.parse(await host.shell(`cat /var/lib/slipway/deploy/${id}/state.json`)) as DeployState;
  } catch {
    return undefined; // not there yet, or the host is down at this moment
  }
}

async function within<T>(work: Promise<T>): Promise<T> {
  const limit = deadline(SCENARIO_TIMEOUT_MS);
  return await Promise.race([
    work,
    new Promise<never>((_, reject) => {
      limit.addEventListener('abort', () => reject(new Error('it took too long')), { once: true });
    }),
  ]);
}

/** What the host itself has to say about its newest deploy. */
async function hostStory(host: WorldHost): Promise<string> {
  const script = `cd /var/lib/slipway/deploy; cd "$(ls | tail -n 1)"; tail -n 30 activate.log rollback.log 2>&1
    journalctl --no-pager -n 40 -o short-precise | cut -c1-200`;
  return await host.shell(script).catch((error: unknown) => `${String(error)}\n`);
}

function report(word: string, { index, scenario }: Drawn, more: string): void {
  process.stdout.write(`${word} ${index} ${scenario.name} (${more})\n`);
}
