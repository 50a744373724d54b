// A pull host whose agent follows a release branch: real git over HTTP, a real signed binary cache over HTTP, real
// systemd. Releases are made here by hand, so that they can also be made wrong.
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { healthConfig } from '../../src/api/fleet-config.ts';
import {
  formatManifest,
  signedManifestBytes,
  type ManifestHost,
  type ReleaseManifest,
} from '../../src/api/manifest.ts';
import { commitTree, setRef, writeFlatTree } from '../../src/effects/git-tree.ts';
import {
  generateSecretKey,
  parseSecretKey,
  publicKeyOf,
  signText,
  type SecretKey,
} from '../../src/nix/signature.ts';
import { sleep, within } from '../../src/util/deadline.ts';
import { openFleet, type Fleet } from './lab/fleet.ts';
import { CONTROLLER_ADDRESS, openWorld, type World } from './lab/world.ts';
import type { WorldHost } from './lab/world-host.ts';

const SERVER_PORT = 7480;
const SERVER = `http://${CONTROLLER_ADDRESS}:${SERVER_PORT}`;
const TOKEN_FILE = '/var/lib/agent.token';
const TESTING_BRANCH = 'release-testing-pi1';
const STATE_FILE = '/var/lib/slipway/agent/state.json';

export interface AgentSceneOptions {
  /** Whether the agent's controller is there: `absent` is an address where nobody answers. */
  readonly controller: 'present' | 'absent';
}

export interface ReleaseOptions {
  /** Default: one more than the last. */
  readonly serial?: number;
  /** Default: the last release, if any. */
  readonly parent?: string | undefined;
  readonly key?: SecretKey;
  readonly host?: Partial<ManifestHost>;
  /** On the testing branch of pi1, on top of the last release; the main branch stays. */
  readonly testing?: boolean;
  /** Tree of the release commit. Default: one file that names the serial. */
  readonly tree?: string;
}

/** How a system of pi1 differs from its first one; see lib/build-toplevel.sh of the example. */
export interface HostChange {
  readonly version?: string;
  readonly kernel?: string;
  readonly broken?: readonly string[];
}

/** The parts of the agent's state that tests look at. */
export interface SeenState {
  readonly applied?: { readonly serial: number; readonly commit: string; readonly toplevel: string };
  readonly quarantine: readonly {
    readonly toplevel: string;
    readonly reason: string;
    readonly detail: string;
  }[];
  readonly lastResult?: {
    readonly phase: string;
    readonly reason: string;
    readonly detail: string;
    readonly toplevel: string;
    readonly failedHooks?: readonly object[];
  };
  readonly seen?: {
    readonly decision: string;
    readonly reason: string;
    readonly detail: string;
    readonly release?: { readonly commit: string };
  };
  readonly operation: { readonly name: string };
  readonly trial?: { readonly id: string };
}

export class AgentScene implements AsyncDisposable {
  readonly world: World;
  readonly fleet: Fleet;
  readonly key: SecretKey;
  #cache: { readonly url: string; readonly publicKeys: string[] } = { url: '', publicKeys: [] };
  #serial = 0;
  #last: string | undefined;
  #manifestTip: string | undefined;
  #variants = 0;

  private constructor(world: World, fleet: Fleet, key: SecretKey) {
    this.world = world;
    this.fleet = fleet;
    this.key = key;
  }

  /** One host, pi1, running its first generation with the agent in it; a server with a cache; no release yet. */
  static async open(options: AgentSceneOptions): Promise<AgentScene> {
    const world = await openWorld({ hosts: ['pi1'] });
    try {
      const key = parseSecretKey(generateSecretKey('release-1'));
      const fleet = await openFleet(world, { agentConfig: configOf(publicKeyOf(key), options) });
      const scene = new AgentScene(world, fleet, key);
      await scene.#startServer();
      await fleet.install();
      return scene;
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Waits until the control plane knows of pi1 what is wanted. */
  async untilReported(wanted: (host: Record<string, unknown>) => boolean): Promise<Record<string, unknown>> {
    let last: Record<string, unknown> | undefined;
    return await within(20_000, 'the report', async (signal) => {
      for (;;) {
        last = await this.#reported();
        if (last !== undefined && wanted(last)) return last;
        await sleep(200, signal);
      }
    });
  }

  async #reported(): Promise<Record<string, unknown> | undefined> {
    const token = await readFile(join(this.#data, 'keys/view.token'), 'utf8');
    const curl = ['curl', '--silent', '--fail', '--header', '@-', `${SERVER}/api/v1/status`];
    const text = await this.world.runText(curl, { input: `authorization: Bearer ${token.trim()}\n` });
    const { hosts } = JSON.parse(text) as { hosts: Record<string, unknown>[] };
    return hosts.find((host) => host['name'] === 'pi1');
  }

  get host(): WorldHost {
    return this.world.host('pi1');
  }

  /** Commit of the last release that `release` published. */
  get lastRelease(): string {
    return this.#last ?? '';
  }

  /** Builds pi1's system with a change and puts it in the cache; the host gets it only through its agent. */
  async build(change: HostChange): Promise<string> {
    const folder = await this.#variantFolder(change);
    const target = `path:${folder}#nixosConfigurations.pi1.config.system.build.toplevel`;
    const built = await this.world.runText(['nix', 'build', '--no-link', '--json', target]);
    const [first] = JSON.parse(built) as { outputs: { out: string } }[];
    const toplevel = first?.outputs.out ?? '';
    await this.#push(toplevel);
    return toplevel;
  }

  /** Evaluates a change without building it; answers its store path and a git tree to build it from. */
  async evaluate(change: HostChange): Promise<{ readonly toplevel: string; readonly tree: string }> {
    const folder = await this.#variantFolder(change);
    const attribute = `path:${folder}#nixosConfigurations.pi1.config.system.build.toplevel.outPath`;
    const toplevel = await this.world.runText(['nix', 'eval', '--raw', attribute]);
    const git = async (...args: string[]): Promise<string> =>
      (await this.world.runText(['git', '-C', folder, ...args])).trim();
    await git('init', '--quiet');
    await git('add', '--all', '--force');
    await git('commit', '--quiet', '--message', 'variant');
    await git('push', '--quiet', this.fleet.remote.path, 'HEAD:refs/variants/v' + String(this.#variants));
    return { toplevel, tree: await git('rev-parse', 'HEAD^{tree}') };
  }

  /** Publishes a release that wants `toplevel` on pi1; answers its commit. */
  async release(toplevel: string, options: ReleaseOptions = {}): Promise<string> {
    const repository = this.fleet.remote.path;
    const serial = options.serial ?? this.#serial + 1;
    const parent = 'parent' in options ? options.parent : this.#last;
    const tree =
      options.tree ?? (await writeFlatTree(repository, { serial: Buffer.from(`${serial} ${toplevel}\n`) }));
    const parents = parent === undefined ? [] : [parent];
    const at = new Date();
    const commit = await commitTree(repository, { tree, parents, message: `Release ${serial}`, at });
    const branch = options.testing === true ? TESTING_BRANCH : 'release';
    const manifest = this.#manifest({ serial, commit, tree, toplevel }, options.host);
    const file = formatManifest({ ...manifest, branch });
    const signature = Buffer.from(`${signText(options.key ?? this.key, signedManifestBytes(file))}\n`);
    const beside = await writeFlatTree(repository, { 'manifest.json': file, 'manifest.json.sig': signature });
    const before = this.#manifestTip === undefined || options.testing === true ? [] : [this.#manifestTip];
    const tip = await commitTree(repository, { tree: beside, parents: before, message: 'Manifest', at });
    await setRef(repository, `refs/heads/${branch}-manifest`, tip);
    await setRef(repository, `refs/heads/${branch}`, commit);
    if (options.testing === true) return commit;
    this.#manifestTip = tip;
    this.#serial = serial;
    this.#last = commit;
    return commit;
  }

  async dropTesting(): Promise<void> {
    const refs = [TESTING_BRANCH, `${TESTING_BRANCH}-manifest`].map((name) => `refs/heads/${name}`);
    for (const ref of refs)
      await this.world.runText(['git', '-C', this.fleet.remote.path, 'update-ref', '-d', ref]);
  }

  async state(): Promise<SeenState | undefined> {
    const text = await this.host.shell(`cat ${STATE_FILE} 2>/dev/null || true`);
    return text === '' ? undefined : (JSON.parse(text) as SeenState);
  }

  /** Waits until the agent's state satisfies `wanted`; says what it was when time is up. */
  async until(what: string, wanted: (state: SeenState) => boolean, timeoutMs = 40_000): Promise<SeenState> {
    let last: SeenState | undefined;
    try {
      return await within(timeoutMs, what, async (signal) => {
        for (;;) {
          last = await this.state().catch(() => last); // between two boots nobody answers
          if (last !== undefined && wanted(last)) return last;
          await sleep(100, signal);
        }
      });
    } catch (error) {
      throw new Error(`${what}: ${JSON.stringify(last, undefined, 1)}\n${await this.log()}`, {
        cause: error,
      });
    }
  }

  async untilApplied(commit: string, timeoutMs?: number): Promise<SeenState> {
    return await this.until(
      'the release is applied',
      (state) => state.applied?.commit === commit && !state.trial,
      timeoutMs,
    );
  }

  /** The agent's journal. */
  async log(): Promise<string> {
    return await this.host.shell('journalctl --unit slipway-agent --no-pager --output cat --lines 60');
  }

  /** `slipway agent …` on the host. */
  async agent(
    ...args: readonly string[]
  ): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
    const result = await this.host.exec(['/opt/slipway/bin/slipway', 'agent', ...args], {
      timeoutMs: 60_000,
    });
    return { code: result.code, stdout: result.stdout.toString(), stderr: result.stderr };
  }

  async agentPid(): Promise<number> {
    return Number(
      await this.host.execText(['systemctl', 'show', '--property=MainPID', '--value', 'slipway-agent']),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.world[Symbol.asyncDispose]();
  }

  get #data(): string {
    return join(this.world.folder, 'server');
  }

  /** `slipway serve` with its public cache "main", and pi1's token put on its disk. */
  async #startServer(): Promise<void> {
    const slipway = join(this.world.repository, 'bin/slipway');
    const flags = ['--data', this.#data, '--listen', `:${SERVER_PORT}`, '--public-url', SERVER];
    const server = this.world.start([slipway, 'serve', ...flags, '--public-cache', '--json']);
    const line = await server.waitForLine(/^.*"kind":"listening".*$/);
    const { caches } = JSON.parse(line) as { caches: { url: string; publicKeys: string[] }[] };
    this.#cache = { url: `${SERVER}/main`, publicKeys: caches[0]?.publicKeys ?? [] };
    const make = ['token', 'create', '--data', this.#data, '--agent', 'pi1', '--json', 'pi1'];
    const { token } = JSON.parse((await this.world.slipway(make)).stdout.toString()) as { token: string };
    await writeFile(this.host.path(TOKEN_FILE), token, { mode: 0o600 });
  }

  async #push(toplevel: string): Promise<void> {
    const token = `file:${join(this.#data, 'keys/runner.token')}`;
    const { code, stderr } = await this.world.slipway(['push', this.#cache.url, toplevel, '--token', token]);
    if (code !== 0) throw new Error(`slipway push ended with ${code}: ${stderr}`);
  }

  #manifest(
    facts: {
      readonly serial: number;
      readonly commit: string;
      readonly tree: string;
      readonly toplevel: string;
    },
    change: Partial<ManifestHost> = {},
  ): ReleaseManifest {
    const { serial, commit, tree, toplevel } = facts;
    const checks = {
      units: ['hello.service'],
      http: [{ url: 'http://127.0.0.1:8080/' }],
      timeout: 6,
      stable: 1,
    };
    const health = healthConfig.parse(checks);
    const pi1 = {
      system: 'x86_64-linux',
      toplevel,
      mode: 'pull',
      wave: 1,
      state: 'built',
      health,
      ...change,
    } as const;
    return {
      version: 1,
      serial,
      branch: 'release',
      commit,
      tree,
      source: commit,
      createdAt: new Date().toISOString(),
      hosts: { pi1 },
      caches: [this.#cache],
    };
  }

  async #variantFolder(change: HostChange): Promise<string> {
    const folder = join(this.world.folder, 'agent-variants', String(++this.#variants));
    await cp(join(this.world.folder, 'bootstrap'), folder, { recursive: true });
    const settings = join(folder, 'hosts/pi1');
    if (change.version !== undefined) await writeFile(join(settings, 'version'), `${change.version}\n`);
    if (change.kernel !== undefined) await writeFile(join(settings, 'kernel'), `${change.kernel}\n`);
    if (change.broken)
      await writeFile(join(settings, 'break'), change.broken.map((word) => `${word}\n`).join(''));
    return folder;
  }
}

function configOf(releaseKey: string, options: AgentSceneOptions): string {
  return `host = "pi1"
releaseKeys = ["${releaseKey}"]
[[remotes]]
url = "http://forge.lab:3000/fleet.git"
poll = 1
[[remotes]]
url = "http://forge.lab:3000/fleet.git"
branch = "${TESTING_BRANCH}"
poll = 1
[controller]
url = "${options.controller === 'present' ? SERVER : `http://${CONTROLLER_ADDRESS}:9`}"
token = "file:${TOKEN_FILE}"
[timeouts]
probe = 4
`;
}
