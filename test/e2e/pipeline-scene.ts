// A small fleet in git behind the world's forge, a state folder and a signing key: what `slipway ci …` is run on.
import assert from 'node:assert/strict';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { releaseManifest, type ReleaseManifest } from '../../src/api/manifest.ts';
import { runEvent, type RunEvent } from '../../src/api/run-events.ts';
import { generateSecretKey } from '../../src/nix/signature.ts';
import type { World } from './lab/world.ts';
import type { RemoteRepository } from './lab/git-forge.ts';
import type { WorldProcess } from './lab/world-process.ts';

/** fleet.json of test/e2e/pipeline-fleet: the hosts, and how they are broken. */
export interface SceneFleet {
  hosts: Record<
    string,
    {
      system?: string;
      /** Shell words that the build runs. */
      build?: string;
      /** The evaluation throws this. */
      throws?: string;
      /** The evaluation holds as many strings in memory. */
      hog?: number;
      /** The toplevel needs the shared derivation. */
      shared?: boolean;
      secrets?: Record<string, string>;
      /** Secrets of home-manager users: name of the user, name of the secret, file. */
      users?: Record<string, Record<string, string>>;
    }
  >;
  /** Shell words that the shared derivation runs. */
  shared: string;
  slipway: unknown;
}

export interface SceneRun {
  readonly code: number;
  readonly stderr: string;
  readonly events: readonly RunEvent[];
  readonly finished: Extract<RunEvent, { kind: 'run-finished' }>;
  readonly problems: readonly Extract<RunEvent, { kind: 'problem' }>[];
  /** The last phase of each host. */
  readonly phases: Readonly<Record<string, string>>;
  /** Each stage's outcome; stages that never began are absent. */
  readonly stages: Readonly<Record<string, string>>;
}

/** The builders are the machine's own /bin/sh: no sandbox. */
const ENV = {
  NIX_CONFIG:
    'experimental-features = nix-command flakes\nsubstituters =\nbuild-users-group =\nsandbox = false\n',
};
let scenes = 0;

/** A limit of time as it holds on a machine that others keep busy too: a bound of ms at rest, more under load. */
export function underLoad(ms: number): number {
  return ms * Math.max(1, (2 * (loadavg()[0] ?? 0)) / availableParallelism());
}

/** A fleet of three hosts (push, pull, manual), committed and pushed; nothing is released yet. */
export async function openScene(world: World): Promise<PipelineScene> {
  const name = `scene-${scenes++}`;
  const scene = new PipelineScene(world, join(world.folder, name), await world.git.create(name));
  await scene.fill();
  return scene;
}

export class PipelineScene {
  readonly checkout: string;
  readonly remote: RemoteRepository;
  readonly signingKey: string;
  readonly stateDirectory: string;
  fleet: SceneFleet = {
    hosts: { a: {}, b: {}, c: {} },
    shared: ':',
    slipway: { hosts: { a: { mode: 'push' }, b: { mode: 'pull' } } },
  };
  readonly #world: World;

  constructor(world: World, folder: string, remote: RemoteRepository) {
    this.#world = world;
    this.remote = remote;
    this.checkout = join(folder, 'checkout');
    this.stateDirectory = join(folder, 'state');
    this.signingKey = join(folder, 'release.key');
  }

  /** Called once, by openScene. */
  async fill(): Promise<void> {
    await cp(join(import.meta.dirname, 'pipeline-fleet'), this.checkout, { recursive: true });
    await writeFile(this.signingKey, generateSecretKey('fleet-1'), { mode: 0o600 });
    for (const host of Object.keys(this.fleet.hosts)) await this.setVersion(host, '1');
    await this.git('init', '--quiet', '--initial-branch=main');
    await this.git('remote', 'add', 'origin', this.remote.url);
    await this.push('A fleet of three hosts');
  }

  async write(path: string, content: string | Uint8Array): Promise<void> {
    await mkdir(join(this.checkout, path, '..'), { recursive: true });
    await writeFile(join(this.checkout, path), content);
  }

  async setVersion(host: string, version: string): Promise<void> {
    await this.write(`hosts/${host}/version`, `${version}\n`);
  }

  async git(...args: readonly string[]): Promise<string> {
    return (await this.#world.runText(['git', ...args], { cwd: this.checkout })).trim();
  }

  /** Commits everything, with the present `fleet`; answers the commit. */
  async commit(message: string): Promise<string> {
    await this.write('fleet.json', JSON.stringify(this.fleet, undefined, 2));
    await this.git('add', '--all');
    await this.git('commit', '--quiet', '--allow-empty', '--message', message);
    return await this.git('rev-parse', 'HEAD');
  }

  async push(message: string): Promise<string> {
    const commit = await this.commit(message);
    await this.git('push', '--quiet', '--force', 'origin', 'HEAD:main');
    return commit;
  }

  /** `slipway ci run` without deploying, with JSON events. */
  async release(...args: readonly string[]): Promise<SceneRun> {
    return await this.ci('run', '--signing-key', this.signingKey, '--no-deploy', ...args);
  }

  /** The same with more variables in the environment. */
  async releaseWith(env: Readonly<Record<string, string>>, ...args: readonly string[]): Promise<SceneRun> {
    const command = ['ci', 'run', '--signing-key', this.signingKey, '--no-deploy', ...args];
    const flags = this.#flags([...command, '--repository', this.remote.url]);
    const options = { cwd: this.checkout, env: { ...ENV, ...env } };
    const result = await this.#world.slipway(flags, options);
    return readRun(result.code, result.stdout.toString('utf8'), result.stderr);
  }

  async ci(verb: string, ...args: readonly string[]): Promise<SceneRun> {
    return await this.slipway('ci', verb, '--repository', this.remote.url, ...args);
  }

  async slipway(...args: readonly string[]): Promise<SceneRun> {
    const options = { cwd: this.checkout, env: ENV };
    const result = await this.#world.slipway(this.#flags(args), options);
    return readRun(result.code, result.stdout.toString('utf8'), result.stderr);
  }

  /** Starts the same run and leaves it running. */
  start(...args: readonly string[]): WorldProcess {
    const command = [join(this.#world.repository, 'bin/slipway'), ...this.#flags(args)];
    return this.#world.start(command, { cwd: this.checkout, env: ENV });
  }

  /** A ref of the forge, or undefined. */
  async tip(branch: string): Promise<string | undefined> {
    const argv = ['git', '-C', this.remote.path, 'rev-parse', '--verify', '--quiet', `refs/heads/${branch}`];
    const result = await this.#world.run(argv);
    return result.code === 0 ? result.stdout.toString('utf8').trim() : undefined;
  }

  async manifest(): Promise<ReleaseManifest> {
    const argv = ['git', '-C', this.remote.path, 'show', 'release-manifest:manifest.json'];
    return releaseManifest.parse(JSON.parse(await this.#world.runText(argv)));
  }

  /** git on the forge's bare repository. */
  async forge(...args: readonly string[]): Promise<string> {
    return (await this.#world.runText(['git', '-C', this.remote.path, ...args])).trim();
  }

  async forget(): Promise<void> {
    await rm(this.stateDirectory, { recursive: true, force: true });
  }

  async readSigningKey(): Promise<string> {
    return await readFile(this.signingKey, 'utf8');
  }

  #flags(args: readonly string[]): string[] {
    return [...args, '--state-dir', this.stateDirectory, '--json'];
  }
}

function readRun(code: number, stdout: string, stderr: string): SceneRun {
  const lines = stdout.split('\n').filter((line) => line !== '');
  const events = lines.map((line) => runEvent.parse(JSON.parse(line)));
  const finished = events.at(-1);
  assert.ok(finished?.kind === 'run-finished', `the last line is not run-finished: ${stdout}${stderr}`);
  const phases: Record<string, string> = {};
  const stages: Record<string, string> = {};
  for (const event of events) {
    if (event.kind === 'host') phases[event.host] = event.phase;
    if (event.kind === 'stage-finished') stages[event.stage] = event.outcome;
  }
  const problems = events.filter((event) => event.kind === 'problem');
  return { code, stderr, events, finished, problems, phases, stages };
}
