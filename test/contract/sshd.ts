// A real sshd on a free port of the loopback, with keys of its own, for the tests of ssh adapters.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { execText } from '../../src/effects/exec.ts';
import type { SshTarget } from '../../src/effects/ssh-target.ts';
import { deadline, sleep } from '../../src/util/deadline.ts';

export class Sshd implements AsyncDisposable {
  /** How to reach it; the login key is part of the options. */
  readonly target: SshTarget;
  readonly folder: string;
  readonly #daemon: ChildProcess;

  constructor(target: SshTarget, folder: string, daemon: ChildProcess) {
    this.target = target;
    this.folder = folder;
    this.#daemon = daemon;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#daemon.kill('SIGKILL');
    await rm(this.folder, { recursive: true, force: true });
  }
}

export async function openSshd(): Promise<Sshd> {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-sshd-'));
  const [hostKey, loginKey] = [await makeKey(folder, 'host'), await makeKey(folder, 'login')];
  await writeFile(join(folder, 'authorized_keys'), loginKey);
  const port = await findFreePort();
  await writeFile(join(folder, 'config'), configuration(folder, port));
  await mkdir('/run/sshd', { recursive: true }); // sshd insists on it when root starts it
  const daemon = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', join(folder, 'config')], { stdio: 'ignore' });
  await untilOpen(port, deadline(10_000));
  const options = ['-F', 'none', '-i', join(folder, 'login'), '-o', 'IdentitiesOnly=yes'];
  const { username: user } = userInfo();
  const target = { name: 'testhost', address: '127.0.0.1', user, port, options, hostKeys: [hostKey.trim()] };
  return new Sshd(target, folder, daemon);
}

async function makeKey(folder: string, name: string): Promise<string> {
  await execText(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', join(folder, name)]);
  return await readFile(join(folder, `${name}.pub`), 'utf8');
}

function configuration(folder: string, port: number): string {
  return [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${folder}/host`,
    `AuthorizedKeysFile ${folder}/authorized_keys`,
    `PidFile ${folder}/pid`,
    'StrictModes no',
    'UsePAM no',
    'PasswordAuthentication no',
    'PermitRootLogin prohibit-password',
    'MaxStartups 100',
  ]
    .map((line) => `${line}\n`)
    .join('');
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function untilOpen(port: number, signal: AbortSignal): Promise<void> {
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const open = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (open) return;
    await sleep(20, signal);
  }
}
