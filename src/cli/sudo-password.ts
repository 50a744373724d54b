// The password for sudo on the hosts: asked for once, on the terminal, when the first host needs it; or read from where
// a reference points. It stays in memory and goes to hosts on stdin only.
import { closeSync, openSync, writeSync } from 'node:fs';
import { isatty, ReadStream } from 'node:tty';
import { secretReference } from '../api/secret-reference.ts';
import { readSecretReference } from '../effects/secret-reference.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';

export interface SudoPasswordOptions {
  readonly askSudoPassword?: boolean;
  readonly sudoPassword?: string;
}

/** One promise a command: its options object is what the hosts have in common. */
const asked = new WeakMap<SudoPasswordOptions, Promise<string>>();

/** Undefined when there is no way to a password. `ask` also without the flag (deploy-rs' `interactiveSudo`). */
export function sudoPasswordOf(
  options: SudoPasswordOptions,
  io: Pick<CliIo, 'env' | 'signal'>,
  ask = false,
): (() => Promise<string>) | undefined {
  const { sudoPassword, askSudoPassword } = options;
  if (sudoPassword === undefined && askSudoPassword !== true && !ask) return undefined;
  return async () => {
    let password = asked.get(options);
    password ??= sudoPassword === undefined ? askOnTerminal(io.signal) : readReference(sudoPassword, io.env);
    asked.set(options, password);
    return await password;
  };
}

async function readReference(reference: string, env: CliIo['env']): Promise<string> {
  if (secretReference.safeParse(reference).success) return await readSecretReference(reference, env);
  throw new SlipwayError('invalid', '--sudo-password takes a reference, never the password itself.', {
    next: 'Write file:/path, env:NAME or credential:name, or use --ask-sudo-password.',
  });
}

async function askOnTerminal(signal: AbortSignal): Promise<string> {
  const descriptor = openTerminal();
  const terminal = new ReadStream(descriptor);
  try {
    writeSync(descriptor, 'sudo password for the hosts: ');
    terminal.setRawMode(true);
    return await readHidden(terminal, signal);
  } finally {
    terminal.setRawMode(false);
    writeSync(descriptor, '\n');
    terminal.destroy();
  }
}

function openTerminal(): number {
  try {
    const descriptor = openSync('/dev/tty', 'r+');
    if (isatty(descriptor)) return descriptor;
    closeSync(descriptor);
  } catch {
    // there is none
  }
  throw new SlipwayError('invalid', 'There is no terminal to ask for the sudo password on.', {
    next: 'Give it with --sudo-password file:/path or credential:name.',
  });
}

async function readHidden(terminal: ReadStream, signal: AbortSignal): Promise<string> {
  return await new Promise<string>((resolve, reject) => {
    let typed = '';
    const cancel = (): void => reject(new SlipwayError('cancelled', 'No password was given.'));
    signal.addEventListener('abort', cancel, { once: true });
    terminal.on('data', (chunk: Buffer) => {
      for (const character of chunk.toString('utf8')) {
        if (character === '\r' || character === '\n') return resolve(typed);
        if (character === '\u0003' || character === '\u0004') return cancel();
        typed = character === '\u007F' || character === '\b' ? typed.slice(0, -1) : typed + character;
      }
    });
  });
}
