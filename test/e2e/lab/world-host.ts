// One test host, seen from its operator's chair: power, reboot, network cable, and a root shell on its console.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { openSync, closeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { exec, execText, type ExecOptions, type ExecResult } from '../../../src/effects/exec.ts';
import { deadline, sleep, within } from '../../../src/util/deadline.ts';
import { SlipwayError } from '../../../src/util/errors.ts';
import { waitForNamespaceInit } from './namespace-child.ts';
import type { World } from './world.ts';

/** systemd-nspawn(1): the exit code when the container asked for a reboot. */
const EXIT_REBOOT = 133;
const BOOT_TIMEOUT_MS = 60_000;
const SETTLED = new Set(['running', 'degraded']);

export class WorldHost {
  readonly name: string;
  readonly address: string;
  readonly #world: World;
  #publicKey = '';
  #machine: ChildProcess | undefined;
  #leader = 0;
  #boots = 0;
  readonly #worldEnds = new AbortController();
  readonly #failed = new AbortController();

  constructor(world: World, name: string, address: string) {
    this.#world = world;
    this.name = name;
    this.address = address;
  }

  /** The ssh host key, as `ssh-ed25519 AAAA…`. */
  get publicKey(): string {
    return this.#publicKey;
  }

  /** How often the host was powered on or rebooted. */
  get boots(): number {
    return this.#boots;
  }

  /** A path of the host as the test process can read it from outside, without following absolute links. */
  path(path: string): string {
    return join(`/proc/${this.#world.init}/root`, this.#world.folder, 'hosts', this.name, 'root', path);
  }

  /** Powers the host on and waits until it has settled. */
  async start(signal: AbortSignal = deadline(BOOT_TIMEOUT_MS)): Promise<void> {
    this.#publicKey ||= await this.#readPublicKey();
    void this.#keepRunning();
    await this.#untilBooted(1, signal);
  }

  /** Runs a program as root on the host's console, not through its network. */
  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    return await exec(await this.#enter(argv), {
      ...options,
      env: { ...clearedEnvironment(), ...options.env },
    });
  }

  /** Like `exec`; a non-zero exit is an error, the answer is stdout without the last line's end. */
  async execText(argv: readonly string[], options: ExecOptions = {}): Promise<string> {
    const env = { ...clearedEnvironment(), ...options.env };
    return (await execText(await this.#enter(argv), { ...options, env })).trimEnd();
  }

  /** Runs a shell script as root on the host's console. */
  async shell(script: string, options: ExecOptions = {}): Promise<string> {
    return await this.execText(['sh', '-euc', script], options);
  }

  /** The store path behind /run/current-system, /run/booted-system, the system profile and the boot default. */
  async systems(): Promise<{ current: string; booted: string; profile: string; bootDefault: string }> {
    const script = `
      readlink /run/current-system || echo; readlink /run/booted-system || echo
      readlink -e /nix/var/nix/profiles/system || echo; cat /boot/loader/default 2>/dev/null || echo`;
    const [current = '', booted = '', profile = '', bootDefault = ''] = (await this.shell(script)).split(
      '\n',
    );
    return { current, booted, profile, bootDefault };
  }

  /** Reboots in an orderly way and waits until the host has settled again. */
  async reboot(): Promise<void> {
    const next = this.#boots + 1;
    await this.exec(['systemctl', 'reboot', '--no-block']);
    await this.#untilBooted(next, deadline(BOOT_TIMEOUT_MS));
  }

  /** Pulls the plug: every process ends at once, then the host boots from the same disk and settles. */
  async powerCut(): Promise<void> {
    const next = this.#boots + 1;
    process.kill(await this.#findLeader(), 'SIGKILL');
    await this.#untilBooted(next, deadline(BOOT_TIMEOUT_MS));
  }

  /** Waits for a boot that the host does by itself, until `boots` has this value and the host has settled. */
  async waitForBoot(boots: number, timeoutMs = BOOT_TIMEOUT_MS): Promise<void> {
    await this.#untilBooted(boots, deadline(timeoutMs));
  }

  /** Pulls the network cable; the host runs on. */
  async cutNetwork(): Promise<void> {
    await this.#world.runText(['ip', 'link', 'set', `v-${this.name}`, 'down']);
  }

  async restoreNetwork(): Promise<void> {
    await this.#world.runText(['ip', 'link', 'set', `v-${this.name}`, 'up']);
  }

  /** The world ends: do not boot again what goes down, and wait for nothing. */
  abandon(): void {
    this.#worldEnds.abort();
  }

  /** What the console has shown, for a failing test to print. */
  async consoleLog(): Promise<string> {
    return await readFile(this.#consoleFile(), 'utf8');
  }

  async #readPublicKey(): Promise<string> {
    const line = await readFile(this.path('etc/ssh/ssh_host_ed25519_key.pub'), 'utf8');
    return line.split(' ').slice(0, 2).join(' ').trim();
  }

  /** Whatever takes the host down (reboot, power cut), it comes up again, until it powers itself off. */
  async #keepRunning(): Promise<void> {
    for (;;) {
      this.#leader = 0;
      const machine = this.#powerOn();
      this.#machine = machine;
      this.#boots++;
      const [code] = (await once(machine, 'exit')) as [number | null];
      const halted = code === 0;
      const neverBooted = code !== EXIT_REBOOT && this.#leader === 0;
      if (this.#worldEnds.signal.aborted || halted) return;
      if (neverBooted) return this.#failed.abort(await this.#bootFailure(code));
    }
  }

  #powerOn(): ChildProcess {
    const console = openSync(this.#consoleFile(), 'a');
    const node = dirname(dirname(this.#world.node));
    const script = join(import.meta.dirname, 'host-boot.sh');
    const [file = '', ...args] = this.#world.enter([
      script,
      this.#world.folder,
      this.name,
      this.#world.repository,
      node,
    ]);
    const machine = spawn(file, args, { detached: true, stdio: ['ignore', console, console] });
    closeSync(console);
    machine.unref();
    return machine;
  }

  #consoleFile(): string {
    return join(this.#world.folder, 'hosts', this.name, 'console.log');
  }

  async #bootFailure(code: number | null): Promise<Error> {
    const console = (await this.consoleLog()).slice(-1500);
    return new SlipwayError(
      'internal',
      `The host ${this.name} ended with ${code} before it was up:\n${console}`,
    );
  }

  async #untilBooted(boot: number, signal: AbortSignal): Promise<void> {
    await within(BOOT_TIMEOUT_MS, `Booting ${this.name}`, async (limit) => {
      const until = AbortSignal.any([limit, signal, this.#worldEnds.signal, this.#failed.signal]);
      while (this.#boots < boot) await sleep(10, until);
      await this.#findLeader(until);
      while (!(await this.#settled())) await sleep(20, until);
    });
  }

  /** Process 1 of the host as the machine sees it; it is another one after each boot. */
  async #findLeader(signal: AbortSignal = deadline(BOOT_TIMEOUT_MS)): Promise<number> {
    if (this.#leader === 0) this.#leader = await waitForNamespaceInit(this.#machine?.pid ?? 0, signal);
    return this.#leader;
  }

  async #settled(): Promise<boolean> {
    const result = await this.exec(['systemctl', 'is-system-running'], { timeoutMs: 10_000 });
    return SETTLED.has(result.stdout.toString().trim());
  }

  async #enter(argv: readonly string[]): Promise<string[]> {
    const flags = [`--target=${await this.#findLeader()}`, '--all', '--root', '--wdns=/root'];
    return ['nsenter', ...flags, '--', ...argv];
  }
}

/** What a login on the console has, and nothing of the machine's environment. */
function clearedEnvironment(): Record<string, string | undefined> {
  return {
    ...Object.fromEntries(Object.keys(process.env).map((key) => [key, undefined])),
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: '/root',
    USER: 'root',
    LANG: 'C.UTF-8',
  };
}
