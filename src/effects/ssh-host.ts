// Host adapter over the system's OpenSSH. One master connection carries all sessions (ssh multiplexing, control
// socket in a private folder with a short path); `fresh()` shares nothing with it. When the master dies, sessions
// fall back to connections of their own, which is what ssh does when the control socket does not answer.
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exec, type ExecResult } from './exec.ts';
import type { Host, HostRunOptions, HostStore } from './host.ts';
import { sshFailure } from './ssh-failure.ts';
import { startSshMaster } from './ssh-master.ts';
import { formatKnownHosts, sshDestination, type SshFiles, sshOptions, type SshTarget } from './ssh-target.ts';
import { writeOnHost } from './write-on-host.ts';

/** sun_path holds 108 bytes; ssh adds a suffix of 17 while it binds. */
const LONGEST_FOLDER = 70;
const EXIT_CONNECTION = 255;

/** Connects; a host that cannot be reached, shows a wrong key or refuses the login throws here. */
export async function openSshHost(target: SshTarget, signal?: AbortSignal): Promise<Host> {
  const folder = await mkdtemp(join(tmpdir().length < LONGEST_FOLDER ? tmpdir() : '/tmp', 'slw-'));
  await chmod(folder, 0o700);
  const files = { knownHosts: join(folder, 'known_hosts'), control: join(folder, 'c') };
  try {
    await writeFile(files.knownHosts, formatKnownHosts(target), { mode: 0o600 });
    const master = await startSshMaster(target, files, signal);
    return new SshHost(target, files, async () => {
      await master.stop();
      await rm(folder, { recursive: true, force: true });
    });
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

class SshHost implements Host {
  readonly name: string;
  readonly address: string;
  readonly store: HostStore;
  readonly #target: SshTarget;
  readonly #files: SshFiles;
  readonly #close: () => Promise<void>;

  constructor(target: SshTarget, files: SshFiles, close: () => Promise<void>) {
    this.name = target.name;
    this.address = target.address;
    this.#target = target;
    this.#files = files;
    this.#close = close;
    this.store = { url: `ssh://${sshDestination(target)}`, sshOptions: sshOptions(target, files) };
  }

  async run(argv: readonly string[], options: HostRunOptions = {}): Promise<ExecResult> {
    const asRoot = this.#target.user === 'root' ? argv : ['sudo', '-n', '--', ...argv];
    const command = asRoot.map(quote).join(' ');
    const ssh = [
      'ssh',
      '-T',
      ...sshOptions(this.#target, this.#files),
      '--',
      sshDestination(this.#target),
      command,
    ];
    const result = await exec(ssh, options);
    if (result.code === EXIT_CONNECTION) throw sshFailure(this.#target, result.stderr);
    return result;
  }

  async write(path: string, content: Uint8Array | string, mode: string): Promise<void> {
    await writeOnHost(this, path, content, mode);
  }

  fresh(): Host {
    return new SshHost(this.#target, { ...this.#files, control: undefined }, async () => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}

/** sshd hands the command line to the login shell: single quotes are the same in all of them. */
function quote(word: string): string {
  return /^[A-Za-z0-9_/.:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
