// Host adapter over the system's OpenSSH. One master connection carries all sessions (ssh multiplexing, control
// socket in a private folder with a short path); `fresh()` shares nothing with it. When the master dies, sessions
// fall back to connections of their own, which is what ssh does when the control socket does not answer.
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exec, type ExecResult } from './exec.ts';
import type { Host, HostAddress, HostRunOptions, HostStore } from './host.ts';
import {
  asRoot,
  type Privilege,
  PRIVILEGE_PROBE,
  privilegeFromProbe,
  ROOT,
  wrongPassword,
} from './privilege.ts';
import { sshFailure } from './ssh-failure.ts';
import { startSshMaster } from './ssh-master.ts';
import {
  formatKnownHosts,
  moveTarget,
  sshDestination,
  type SshFiles,
  sshOptions,
  type SshTarget,
} from './ssh-target.ts';
import { writeOnHost } from './write-on-host.ts';

/** sun_path holds 108 bytes; ssh adds a suffix of 17 while it binds. */
const LONGEST_FOLDER = 70;
const EXIT_CONNECTION = 255;
const PROBE_TIMEOUT_MS = 30_000;

export interface SshHostOptions {
  readonly signal?: AbortSignal | undefined;
  /** The password for sudo, asked for only where one is needed. */
  readonly sudoPassword?: (() => Promise<string | undefined>) | undefined;
}

/** Connects; a host that cannot be reached, shows a wrong key, or refuses the login or root throws here. */
export async function openSshHost(target: SshTarget, options: SshHostOptions = {}): Promise<Host> {
  const folder = await mkdtemp(join(tmpdir().length < LONGEST_FOLDER ? tmpdir() : '/tmp', 'slw-'));
  await chmod(folder, 0o700);
  const files = { knownHosts: join(folder, 'known_hosts'), control: join(folder, 'c') };
  await using opened = new AsyncDisposableStack();
  opened.defer(async () => await rm(folder, { recursive: true, force: true }));
  await writeFile(files.knownHosts, formatKnownHosts(target), { mode: 0o600 });
  const master = await startSshMaster(target, files, options.signal);
  opened.defer(async () => await master.stop());
  const privilege = await openPrivilege(target, files, options);
  const kept = opened.move();
  return new SshHost(target, files, { privilege, close: async () => await kept.disposeAsync() });
}

interface Session {
  readonly privilege: Privilege;
  readonly close: () => Promise<void>;
}

class SshHost implements Host {
  readonly name: string;
  readonly address: string;
  readonly store: HostStore;
  readonly #target: SshTarget;
  readonly #files: SshFiles;
  readonly #session: Session;

  constructor(target: SshTarget, files: SshFiles, session: Session) {
    this.name = target.name;
    this.address = target.address;
    this.#target = target;
    this.#files = files;
    this.#session = session;
    const { words, password } = session.privilege;
    // With a password, Nix' own connection cannot become root: then the login itself must be a trusted user.
    const program = words.length === 0 || password !== undefined ? '' : remoteProgram(words);
    this.store = {
      url: `ssh://${sshDestination(target)}${program}`,
      sshOptions: sshOptions(target, files),
    };
  }

  async run(argv: readonly string[], options: HostRunOptions = {}): Promise<ExecResult> {
    const command = asRoot(this.#session.privilege, { argv, input: options.input });
    return await runOverSsh(this.#target, this.#files, command.argv, {
      ...options,
      ...(command.input !== undefined && { input: command.input }),
    });
  }

  async write(path: string, content: Uint8Array | string, mode: string): Promise<void> {
    await writeOnHost(this, path, content, mode);
  }

  fresh(at?: HostAddress): Host {
    const { privilege } = this.#session;
    const files = { ...this.#files, control: undefined };
    const target = at === undefined ? this.#target : moveTarget(this.#target, at);
    return new SshHost(target, files, { privilege, close: async () => undefined });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session.close();
  }
}

/** Finds out once how this login becomes root; for root itself there is nothing to ask. */
async function openPrivilege(
  target: SshTarget,
  files: SshFiles,
  { sudoPassword, signal }: SshHostOptions,
): Promise<Privilege> {
  if (target.user === 'root') return ROOT;
  if (target.sudo !== undefined) return { words: target.sudo };
  const options = { timeoutMs: PROBE_TIMEOUT_MS, ...(signal && { signal }) };
  const probe = await runOverSsh(target, files, ['sh', '-s'], { ...options, input: PRIVILEGE_PROBE });
  const said = probe.stdout.toString('utf8').trim();
  const password = said === 'password' ? await sudoPassword?.() : undefined;
  const login = { host: target.name, user: target.user, password };
  const privilege = privilegeFromProbe(said, login);
  if (privilege.password === undefined) return privilege;
  const { argv, input = '' } = asRoot(privilege, { argv: ['true'], input: undefined });
  const proof = await runOverSsh(target, files, argv, { ...options, input });
  if (proof.code !== 0) throw wrongPassword(login, proof.stderr);
  return privilege;
}

async function runOverSsh(
  target: SshTarget,
  files: SshFiles,
  argv: readonly string[],
  options: HostRunOptions,
): Promise<ExecResult> {
  const command = argv.map(quote).join(' ');
  const ssh = ['ssh', '-T', ...sshOptions(target, files), '--', sshDestination(target), command];
  const result = await exec(ssh, options);
  if (result.code === EXIT_CONNECTION) throw sshFailure(target, result.stderr);
  return result;
}

function remoteProgram(words: readonly string[]): string {
  return `?remote-program=${encodeURIComponent([...words, 'nix-store'].join(' '))}`;
}

/** sshd hands the command line to the login shell: single quotes are the same in all of them. */
function quote(word: string): string {
  return /^[A-Za-z0-9_/.:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
