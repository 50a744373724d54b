// A world: one set of real test hosts, a controller side and a git forge, all inside one process tree with its own
// PID, mount and network namespaces. When the tree's top ends, however it ends, everything in it is gone.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { exec, execText, type ExecOptions, type ExecResult } from '../../../src/effects/exec.ts';
import { deadline, within } from '../../../src/util/deadline.ts';
import { SlipwayError } from '../../../src/util/errors.ts';
import { openBaseImage } from './base-image.ts';
import { compiledCode } from './compiled-code.ts';
import { GitForge } from './git-forge.ts';
import { waitForNamespaceInit } from './namespace-child.ts';
import { openRelay, type Relay } from './relay.ts';
import { WorldHost } from './world-host.ts';
import { startProcess, type WorldProcess } from './world-process.ts';

export interface WorldOptions {
  /** Names of the hosts to boot; the first gets 10.77.0.11, and so on. Default: none. */
  readonly hosts?: readonly string[];
  readonly signal?: AbortSignal;
}

/** Address of the controller side, of the git forge and of whatever is started with `run` and `start`. */
export const CONTROLLER_ADDRESS = '10.77.0.1';
const START_TIMEOUT_MS = 90_000;
/** A bench has fifty, on two busy cores. */
const START_TIMEOUT_PER_HOST_MS = 2_000;
const END_TIMEOUT_MS = 120_000;
const REPOSITORY = dirname(dirname(dirname(import.meta.dirname)));

/** Boots a world and waits until every host has settled and the forge answers. Needs root. */
export async function openWorld(options: WorldOptions = {}): Promise<World> {
  const base = await openBaseImage();
  const folder = await mkdtemp(join(tmpdir(), 'slipway-world-'));
  const names = options.hosts ?? [];
  const addresses = new Map(names.map((name, index) => [name, `10.77.0.${11 + index}`]));
  await writeFile(join(folder, 'hosts-file'), hostsFile(addresses));
  const top = startNamespaces(folder, base, addresses);
  const world = new World(folder, top);
  try {
    const longest = START_TIMEOUT_MS + START_TIMEOUT_PER_HOST_MS * names.length;
    await within(longest, 'Starting the test world', async (limit) => {
      const signal = options.signal ? AbortSignal.any([limit, options.signal]) : limit;
      await world.settle(addresses, signal);
    });
  } catch (error) {
    await world[Symbol.asyncDispose]();
    throw error;
  }
  return world;
}

export class World implements AsyncDisposable {
  /** Folder of the world on the machine's disk; gone with the world. */
  readonly folder: string;
  /** The node that runs the tests; the same path works inside. */
  readonly node = process.execPath;
  /** Slipway's checkout, the same path inside; on the hosts it is /opt/slipway. */
  readonly repository = REPOSITORY;
  readonly git: GitForge;
  readonly #top: ChildProcess;
  readonly #hosts = new Map<string, WorldHost>();
  readonly #relays: Relay[] = [];
  #init = 0;

  constructor(folder: string, top: ChildProcess) {
    this.folder = folder;
    this.#top = top;
    this.git = new GitForge(this);
  }

  /** Waits for the namespaces, then boots the hosts and the forge side by side. Called once, by openWorld. */
  async settle(addresses: ReadonlyMap<string, string>, signal: AbortSignal): Promise<void> {
    await untilReady(this.#top);
    release(this.#top);
    this.#init = await waitForNamespaceInit(this.#top.pid ?? 0, signal);
    for (const [name, address] of addresses) this.#hosts.set(name, new WorldHost(this, name, address));
    await Promise.all([...[...this.#hosts.values()].map((host) => host.start(signal)), this.git.start()]);
    const known = [...this.#hosts.values()].map((host) => `${host.name},${host.address} ${host.publicKey}\n`);
    await writeFile(join(this.folder, 'home/.ssh/known_hosts'), known.join(''));
  }

  /** Process id of the world's process 1, as the machine sees it. */
  get init(): number {
    return this.#init;
  }

  /** Process id of the janitor, which is outside of the world and outlives it by a moment. */
  get janitor(): number {
    return this.#top.pid ?? 0;
  }

  get hosts(): readonly WorldHost[] {
    return [...this.#hosts.values()];
  }

  host(name: string): WorldHost {
    const host = this.#hosts.get(name);
    if (!host) throw new SlipwayError('not_found', `The test world has no host ${name}.`);
    return host;
  }

  /** Runs a program on the controller side (own network, own /nix, own home) and returns whatever it ends with. */
  async run(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    return await exec(this.enter(argv, options.cwd), { ...this.#surroundings(options) });
  }

  /** Like `run`; a non-zero exit is an error, the answer is stdout. */
  async runText(argv: readonly string[], options: ExecOptions = {}): Promise<string> {
    return await execText(this.enter(argv, options.cwd), { ...this.#surroundings(options) });
  }

  /** Runs `slipway …` on the controller side. */
  async slipway(args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    return await this.run([join(REPOSITORY, 'bin/slipway'), ...args], options);
  }

  /** Starts a program that stays, such as `slipway up`; it ends with the world at the latest. */
  start(argv: readonly string[], options: ExecOptions = {}): WorldProcess {
    return startProcess(this.enter(argv, options.cwd), this.#surroundings(options));
  }

  /** Makes a TCP port of the controller side reachable from outside: answers a port on the machine's 127.0.0.1. */
  async expose(port: number, on = 0): Promise<number> {
    const relay = await openRelay(this, port, on);
    this.#relays.push(relay);
    return relay.port;
  }

  /** The argv that runs `argv` inside the world. */
  enter(argv: readonly string[], cwd = this.folder): string[] {
    const flags = [`--target=${this.#init}`, '--mount', '--net', '--pid', '--root', `--wdns=${cwd}`];
    return ['nsenter', ...flags, '--', ...argv];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const host of this.hosts) host.abandon();
    for (const relay of this.#relays) relay.close();
    this.#top.ref();
    this.#top.stdin?.end();
    if (this.#top.exitCode === null && this.#top.signalCode === null) {
      await once(this.#top, 'exit', { signal: deadline(END_TIMEOUT_MS) });
    }
  }

  #surroundings(options: ExecOptions): ExecOptions {
    const { cwd: _, ...rest } = options;
    return { ...rest, env: { ...this.#environment(), ...options.env } };
  }

  /** Nothing of the caller's environment but its locale: tests must not depend on who runs them. */
  #environment(): Record<string, string | undefined> {
    const cleared = Object.keys(process.env).map((key) => [key, undefined] as const);
    return {
      ...Object.fromEntries(cleared),
      PATH: `${dirname(this.node)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      HOME: join(this.folder, 'home'),
      TMPDIR: join(this.folder, 'tmp'),
      NODE_COMPILE_CACHE: compiledCode(),
      USER: 'root',
      LANG: 'C.UTF-8',
      NIX_CONFIG:
        'experimental-features = nix-command flakes\nsubstituters =\nbuild-users-group =\nsandbox = false\n',
      GIT_CONFIG_COUNT: '1',
      GIT_CONFIG_KEY_0: 'safe.directory',
      GIT_CONFIG_VALUE_0: '*',
      GIT_AUTHOR_NAME: 'Lab',
      GIT_AUTHOR_EMAIL: 'lab@example.org',
      GIT_COMMITTER_NAME: 'Lab',
      GIT_COMMITTER_EMAIL: 'lab@example.org',
    };
  }
}

function hostsFile(addresses: ReadonlyMap<string, string>): string {
  const lines = [['localhost', '127.0.0.1'], ['controller forge.lab', CONTROLLER_ADDRESS], ...addresses];
  return lines.map(([name, address]) => `${address} ${name}\n`).join('');
}

function startNamespaces(folder: string, base: string, addresses: ReadonlyMap<string, string>): ChildProcess {
  const hosts = [...addresses].map(([name, address]) => `${name}=${address}`);
  const init = [join(import.meta.dirname, 'world-init.sh'), folder, base, CONTROLLER_ADDRESS, ...hosts];
  const top = spawn(join(import.meta.dirname, 'world-janitor.sh'), [folder, ...init], {
    detached: true,
    stdio: 'pipe',
  });
  top.stdin.on('error', () => undefined); // the world ended first
  return top;
}

/** A test that forgets its world must not hang: the world ends with the test's process. */
function release(top: ChildProcess): void {
  top.unref();
  for (const stream of [top.stdin, top.stdout, top.stderr]) (stream as Socket | null)?.unref();
}

async function untilReady(top: ChildProcess): Promise<void> {
  let said = '';
  top.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await new Promise<void>((resolve, reject) => {
    top.stdout?.once('data', () => resolve());
    top.once('error', reject);
    top.once('exit', (code) => {
      reject(
        new SlipwayError('internal', `The test world ${basename(top.spawnfile)} ended with ${code}: ${said}`),
      );
    });
  });
}
