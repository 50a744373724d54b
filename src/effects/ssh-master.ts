// The connection that carries all sessions to one host. Its own session is a remote `cat` on a pipe that we hold: it
// echoes when the login worked, and ends, with the connection, when we close the pipe or die.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { deadline } from '../util/deadline.ts';
import { SlipwayError } from '../util/errors.ts';
import { sshFailure } from './ssh-failure.ts';
import { sshDestination, type SshFiles, sshOptions, type SshTarget } from './ssh-target.ts';

export interface SshMaster {
  stop(): Promise<void>;
}

/** Longest wait for the login, on top of ssh's own ConnectTimeout. */
const LOGIN_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 2_000;
const STDERR_TAIL = 8_192;

export async function startSshMaster(
  target: SshTarget,
  files: SshFiles,
  signal?: AbortSignal,
): Promise<SshMaster> {
  signal?.throwIfAborted();
  const options = ['-T', '-o', 'ControlMaster=yes', ...sshOptions(target, files)];
  // Its own process group: a Ctrl-C is for us to handle, the connection is still needed to tell the host.
  const child = spawn('ssh', [...options, '--', sshDestination(target), 'cat'], {
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.on('error', () => undefined); // the connection ended first
  try {
    await untilEcho(child, target, deadline(LOGIN_TIMEOUT_MS, signal));
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  child.stdout.resume();
  child.unref();
  return { stop: async () => await stop(child) };
}

async function untilEcho(child: ChildProcess, target: SshTarget, signal: AbortSignal): Promise<void> {
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => (said = (said + chunk.toString('utf8')).slice(-STDERR_TAIL)));
  await new Promise<void>((resolve, reject) => {
    child.once('error', (cause) =>
      reject(
        new SlipwayError('missing_tool', 'The program ssh was not found.', {
          next: 'Install OpenSSH.',
          cause,
        }),
      ),
    );
    child.once('close', () => reject(sshFailure(target, said)));
    child.stdout?.once('data', () => resolve());
    signal.addEventListener('abort', () => reject(loginTimeout(target, signal)), { once: true });
    child.stdin?.write('ready\n');
  });
}

function loginTimeout(target: SshTarget, signal: AbortSignal): SlipwayError {
  const timedOut = signal.reason instanceof Error && signal.reason.name === 'TimeoutError';
  if (!timedOut) return new SlipwayError('cancelled', `Connecting to ${target.name} was cancelled.`);
  return sshFailure(target, 'the login took too long');
}

async function stop(child: ChildProcess): Promise<void> {
  child.stdin?.end();
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.ref();
  child.kill('SIGTERM');
  await once(child, 'exit', { signal: deadline(STOP_TIMEOUT_MS) }).catch(() => child.kill('SIGKILL'));
}
