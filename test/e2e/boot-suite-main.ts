// `make test-boot`: boot trials on machines with real firmware, a real systemd-boot and the very runner that hosts run:
// good kernels, kernels that panic or hang, systems that fail their checks, power cuts at each state. Each must end on the
// right system with that system as boot default, and what the client reports must be what the host has on disk.
// Usage: boot-suite-main.ts [--lanes 2] [--only WORDS]. The last line is JSON.
import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { type DeployState, FINAL_PHASES, isFinal } from '../../src/api/deploy-state.ts';
import { deadline, sleep } from '../../src/util/deadline.ts';
import { type BootScenario, BOOT_SCENARIOS } from './boot-scenarios.ts';
import { buildFaultySystem } from './faulty-system.ts';
import type { WorldProcess } from './lab/world-process.ts';
import { openWorld, type World } from './lab/world.ts';
import { BootMachine, LAB, openGuest, QUIET } from './qemu/boot-machine.ts';

const FIRST_PORT = 2201;
const SCENARIO_TIMEOUT_MS = 30 * 60_000;
const DRIVER = new URL('deploy-driver-main.ts', import.meta.url).pathname;
/** Emulated processors are slow; what must run out is short in the scenario that wants it. */
const PATIENT_SSH = [
  '-o',
  'ConnectTimeout=60',
  '-o',
  'ServerAliveInterval=10',
  '-o',
  'ServerAliveCountMax=6',
];
const TIMEOUTS = { lock: 300, activation: 600, confirm: 600, commit: 600, rollback: 600, boot: 900 };

const { values } = parseArgs({
  options: { lanes: { type: 'string', default: '2' }, only: { type: 'string', default: '' } },
});
async function runSuite(lanes: number, only: string): Promise<number> {
  const started = performance.now();
  const queue = BOOT_SCENARIOS.filter(({ name }) => name.includes(only));
  const total = queue.length;
  const failed: string[] = [];
  let done = 0;
  const guest = await openGuest();
  await using world = await openWorld();
  const first = await build(world, 'v1', 'a');
  const lane = async (index: number): Promise<void> => {
    const machine = new BootMachine(world, guest, FIRST_PORT + index);
    let old = first;
    await machine.install(old);
    await machine.powerOn();
    await machine.untilUp();
    for (let scenario = queue.shift(); scenario !== undefined; scenario = queue.shift()) {
      const since = performance.now();
      const took = (): string => `${Math.round((performance.now() - since) / 1000)} s`;
      try {
        old = await within(new Run(world, machine, scenario, old).run());
        done++;
        process.stdout.write(`ok ${scenario.name} (${took()})\n`);
      } catch (error) {
        failed.push(scenario.name);
        process.stdout.write(
          `FAILED ${scenario.name} (${took()}): ${error instanceof Error ? error.message : String(error)}\n`,
        );
        process.stdout.write(`${(await machine.tryShell(STORY)) ?? (await machine.consoleEnd())}\n`);
        return; // a machine that is not what it should be says nothing about the next deploy
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(lanes, total) }, async (_, index) => await lane(index)));
  const seconds = Math.round((performance.now() - started) / 1000);
  process.stdout.write(`${done} of ${total} boot trials ended as they must\n`);
  process.stdout.write(`${JSON.stringify({ suite: 'boot', passed: done, total, failed, seconds })}\n`);
  return done === total && total > 0 ? 0 : 1;
}

const STORY = `tail -n 5 /var/log/boots; ls /boot/loader/entries; cat /boot/loader/loader.conf
  cd /var/lib/slipway/deploy; cd "$(ls | tail -n 1)"; tail -n 40 state.json activate.log rollback.log 2>&1`;

/** A system whose initrd is one of the guest's: what differs from the running one needs a boot. */
async function build(
  world: World,
  version: string,
  initrd: string,
  scenario?: BootScenario,
): Promise<string> {
  return await buildFaultySystem(world, {
    host: 'boot1',
    version,
    faults: scenario?.faults ?? [],
    files: {
      'kernel-params': `${QUIET} lab.version=${version}`,
      'boot-names': scenario?.names ?? 'generations',
    },
    links: { kernel: `${LAB}/vmlinuz`, initrd: `${LAB}/initrd-${initrd}`, init: `${LAB}/init` },
  });
}

let versions = 1;

class Run {
  readonly #world: World;
  readonly #machine: BootMachine;
  readonly #scenario: BootScenario;
  readonly #old: string;

  constructor(world: World, machine: BootMachine, scenario: BootScenario, old: string) {
    this.#world = world;
    this.#machine = machine;
    this.#scenario = scenario;
    this.#old = old;
  }

  /** Answers the system that the machine runs afterwards; throws when anything is not as it should be. */
  async run(): Promise<string> {
    const scenario = this.#scenario;
    const machine = this.#machine;
    const version = `v${++versions}`;
    const next = await build(this.#world, version, scenario.initrd ?? 'b', scenario);
    const before =
      (await machine.shell('ls /var/lib/slipway/deploy 2>/dev/null || true')).split('\n').at(-1) ?? '';
    await scenario.prepare?.(machine);
    const client = this.#deploy(next);
    await scenario.disturb?.({
      machine,
      client,
      old: this.#old,
      untilPhase: async (phase) => await this.#untilPhase(before, phase),
    });
    if (scenario.silent !== true) await client.ended;
    const told = client.lines.at(-1) ?? '';
    assert.ok(scenario.silent === true || told.includes('"state"'), `the client came to no end: ${told}`);
    const state = await this.#finalState(before);
    assert.deepEqual([state.phase, state.reason], scenario.ends, state.detail);
    await machine.untilUp(); // the report and the state come before the last boot has settled
    if (scenario.silent !== true) await assertReport(client, state);
    const expected = state.phase === 'COMMITTED' ? next : this.#old;
    await this.#assertRuns(expected);
    const quarantined = await machine.shell('cat /var/lib/slipway/quarantine 2>/dev/null || true');
    assert.equal(quarantined.includes(next), scenario.quarantined === true, `quarantine: ${quarantined}`);
    return expected;
  }

  #deploy(toplevel: string): WorldProcess {
    const { port, hostKey } = this.#machine;
    const { timeouts, confirm, stable = 2 } = this.#scenario;
    const health = {
      units: ['lab-app.service'],
      http: [{ url: 'http://127.0.0.1:8080/' }],
      timeout: 60,
      stable,
    };
    const request = { toplevel, release: 'test', health, confirm, timeouts: { ...TIMEOUTS, ...timeouts } };
    const order = { name: 'boot1', address: '127.0.0.1', port, hostKey, options: PATIENT_SSH, request };
    return this.#world.start([this.#world.node, DRIVER, JSON.stringify(order)]);
  }

  /** Looks on the machine itself: each login costs an emulated processor seconds. */
  async #untilPhase(before: string, phase: DeployState['phase']): Promise<void> {
    const signal = deadline(SCENARIO_TIMEOUT_MS);
    const script = `cd /var/lib/slipway/deploy || exit 1
      for look in $(seq 60); do
        newest=$(ls | tail -n 1)
        now=$(sed -n 's/^  "phase": "\\(.*\\)",$/\\1/p' $newest/state.json 2>/dev/null)
        if [ "$newest" != "${before}" ]; then
          case $now in ${[phase, ...FINAL_PHASES].join(' | ')}) echo $now; exit ;; esac
        fi
        sleep 0.3
      done`;
    while (!signal.aborted) {
      const seen = (await this.#machine.tryShell(script)) ?? '';
      if (seen === phase) return;
      assert.equal(seen, '', `nobody saw it in ${phase}`);
      await sleep(500);
    }
    throw new Error(`It did not come to ${phase}.`);
  }

  async #finalState(before: string): Promise<DeployState> {
    const signal = deadline(SCENARIO_TIMEOUT_MS);
    const script = 'cd /var/lib/slipway/deploy && cat "$(ls | tail -n 1)/state.json"';
    let last = '';
    while (!signal.aborted) {
      const state = parseState(await this.#machine.tryShell(script));
      if (state !== undefined && state.id !== before) {
        if (isFinal(state.phase)) return state;
        last = `${state.phase} ${state.reason} ${state.detail}`;
      }
      await sleep(3_000);
    }
    throw new Error(`It stayed in ${last || 'no state'}.`);
  }

  /** Running, booted, profile and boot default agree; nothing of the trial is left; no entry of it is on probation. */
  async #assertRuns(path: string): Promise<void> {
    const script = `readlink /run/current-system; readlink /run/booted-system; readlink -f /nix/var/nix/profiles/system
      default=$(sed -n 's/^preferred //p; s/^default //p' /boot/loader/loader.conf | head -n 1)
      sed -n 's|^options .*init=\\([^ ]*\\)/init.*|\\1|p' /boot/loader/entries/$default
      grep -o 'lab.version=[^ ]*' /proc/cmdline; grep -o 'lab.version=[^ ]*' ${path}/kernel-params
      ls /boot/loader/entries | grep slipway; bootctl list 2>/dev/null | grep -c slipway-trial
      ls /etc/systemd/system.control | grep deadman; ls /sys/firmware/efi/efivars | grep OneShot
      systemctl list-units --all --plain --no-legend 'slipway-*' | grep -v slipway-recover.service
      systemctl is-active lab-app.service`;
    const [current, booted, profile, fallback, ...rest] = (await this.#machine.shell(script)).split('\n');
    assert.deepEqual([current, booted, profile, fallback], [path, path, path, path]);
    assert.equal(rest[0], rest[1], 'it was started with its own parameters');
    assert.deepEqual(rest.slice(2), ['0', 'active'], 'nothing of the trial is left');
  }
}

/** The client's last word equals the host's state, field by field. */
async function assertReport(client: WorldProcess, state: DeployState): Promise<void> {
  await client.ended;
  const line = client.lines.findLast((one) => one.startsWith('{"kind"')) ?? '{}';
  const outcome = JSON.parse(line) as { readonly state?: DeployState };
  assert.deepEqual(
    outcome.state,
    state,
    `the report equals the host: ${line}\n${client.lines.slice(-5).join('\n')}`,
  );
}

function parseState(text: string | undefined): DeployState | undefined {
  if (text === undefined || text === '') return undefined;
  return JSON.parse(text) as DeployState;
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

process.exitCode = await runSuite(Number(values.lanes), values.only);
