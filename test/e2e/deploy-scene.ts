// What the deploy tests share: a world whose hosts run version v1 of a faulty system, one host a test, so that tests
// may run side by side; deploys from the controller side; and the host's own account of what happened.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { DeployPhase, DeployState } from '../../src/api/deploy-state.ts';
import type { DeployRequest } from '../../src/deploy/deploy-request.ts';
import { deadline, sleep } from '../../src/util/deadline.ts';
import { buildFaultySystem, type FaultySystem, installFaultySystem } from './faulty-system.ts';
import type { WorldHost } from './lab/world-host.ts';
import type { WorldProcess } from './lab/world-process.ts';
import { openWorld, type World } from './lab/world.ts';

export interface Outcome {
  readonly kind: string;
  readonly code?: string;
  readonly reason?: string;
  readonly detail?: string;
  readonly healthy?: boolean;
  readonly message?: string;
  readonly state?: DeployState;
}

type Asked = Partial<Omit<DeployRequest, 'health'>> & {
  readonly health?: object;
  readonly hostKey?: string;
  readonly address?: string;
};

const DRIVER = join(import.meta.dirname, 'deploy-driver-main.ts');
/** Short, so that what must run out runs out soon; long enough for two busy cores. */
const TIMEOUTS = { lock: 20, activation: 20, confirm: 20, commit: 20, rollback: 20, boot: 40 };
const HEALTH = { units: ['lab-app.service'], timeout: 15, stable: 0 };
const PHASE_TIMEOUT_MS = 40_000;
const CLEANING_TIMEOUT_MS = 5_000;

export class DeployScene implements AsyncDisposable {
  readonly world: World;
  readonly #first = new Map<string, string>();
  #free: string[];

  constructor(world: World) {
    this.world = world;
    this.#free = world.hosts.map((host) => host.name);
  }

  async install(): Promise<void> {
    for (const { name } of this.world.hosts) {
      this.#first.set(name, await buildFaultySystem(this.world, { host: name, version: 'v1' }));
    }
    await Promise.all(
      [...this.#first].map(async ([name, path]) => installFaultySystem(this.world, name, path)),
    );
  }

  /** A host that no other test uses, and the system it runs. */
  takeHost(): { readonly host: WorldHost; readonly old: string } {
    const name = this.#free.shift();
    assert.ok(name !== undefined, 'the scene has a host for each test');
    return { host: this.world.host(name), old: this.#first.get(name) ?? '' };
  }

  async build(host: WorldHost, version: string, more: Partial<FaultySystem> = {}): Promise<string> {
    return await buildFaultySystem(this.world, { host: host.name, version, ...more });
  }

  /** Starts a deploy; its lines are `phase …`, `log …`, `span …` and the outcome's JSON. */
  start(host: WorldHost, toplevel: string, asked: Asked = {}): WorldProcess {
    const { hostKey = host.publicKey, address = host.address, ...request } = asked;
    const full = {
      toplevel,
      release: 'test',
      ...request,
      timeouts: { ...TIMEOUTS, ...request.timeouts },
      health: { ...HEALTH, ...request.health },
    };
    const order = JSON.stringify({ name: host.name, address, hostKey, request: full });
    return this.world.start([this.world.node, DRIVER, order]);
  }

  async deploy(host: WorldHost, toplevel: string, asked: Asked = {}): Promise<Outcome> {
    return await this.outcome(this.start(host, toplevel, asked));
  }

  /** The outcome that a started deploy printed. */
  async outcome(deploy: WorldProcess): Promise<Outcome> {
    await deploy.ended;
    const line = deploy.lines.findLast((line) => line.startsWith('{"kind"'));
    assert.ok(line !== undefined, `the driver printed an outcome: ${deploy.lines.join('\n')}`);
    return JSON.parse(line) as Outcome;
  }

  /** The newest deploy's state as the host has it on disk. */
  async state(host: WorldHost): Promise<DeployState> {
    const newest = await host.shell('cat "$(ls -d /var/lib/slipway/deploy/*/ | tail -n 1)state.json"');
    return JSON.parse(newest) as DeployState;
  }

  async waitForPhase(host: WorldHost, ...phases: readonly DeployPhase[]): Promise<DeployState> {
    const signal = deadline(PHASE_TIMEOUT_MS);
    let last: DeployState | undefined;
    while (!signal.aborted) {
      last = await this.state(host).catch(() => undefined); // not there yet
      if (last !== undefined && phases.includes(last.phase)) return last;
      await sleep(20);
    }
    const log = await host.shell('tail -n 40 /var/lib/slipway/deploy/*/activate.log || true');
    throw new Error(`${host.name} is in ${last?.phase ?? 'no phase'}, not ${phases.join(' or ')}: ${log}`);
  }

  /** The current system, the profile and the boot default are all `path`, its unit answers, nothing of us is left. */
  async assertRuns(host: WorldHost, path: string): Promise<void> {
    const { current, profile, bootDefault } = await host.systems();
    assert.deepEqual({ current, profile, bootDefault }, { current: path, profile: path, bootDefault: path });
    await assertNothingLeft(host);
    const page = await host.shell(
      'curl -fsS --retry 5 --retry-connrefused --retry-delay 1 http://127.0.0.1:8080/',
    );
    assert.match(path, new RegExp(`-${page.trim().replace(' ', '-')}$`));
  }

  async quarantined(host: WorldHost): Promise<string> {
    return await host.shell('cat /var/lib/slipway/quarantine 2>/dev/null || true');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.world[Symbol.asyncDispose]();
  }
}

/** No unit and no root of a deploy; what a crash left behind goes with the recovery that the boot started. */
async function assertNothingLeft(host: WorldHost): Promise<void> {
  const script = `systemctl list-units --all --plain --no-legend 'slipway-*-*'
    ls -A /nix/var/nix/gcroots/slipway 2>/dev/null || true`;
  const signal = deadline(CLEANING_TIMEOUT_MS);
  let left = await host.shell(script);
  while (left !== '' && !signal.aborted) {
    await sleep(100);
    left = await host.shell(script);
  }
  assert.equal(left, '', 'no unit and no root of the deploy is left');
}

/** A scene with this many hosts, h01 and so on. */
export async function openDeployScene(hosts: number): Promise<DeployScene> {
  const names = Array.from({ length: hosts }, (_, index) => `h${String(index + 1).padStart(2, '0')}`);
  const world = await openWorld({ hosts: names });
  const scene = new DeployScene(world);
  try {
    await scene.install();
  } catch (error) {
    await world[Symbol.asyncDispose]();
    throw error;
  }
  return scene;
}
