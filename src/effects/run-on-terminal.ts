// Runs a program on the user's terminal: an editor, or one that asks for a passphrase or a touch. Unlike exec it is in our
// own process group, so that Ctrl-C and the terminal's size reach it; whoever sits there ends it, not a deadline.
import { spawn } from 'node:child_process';
import { SlipwayError } from '../util/errors.ts';

export interface TerminalOptions {
  /** Given on stdin, which is then not the terminal. */
  readonly input?: Uint8Array;
  /** Collect stdout instead of showing it. */
  readonly capture?: boolean;
  readonly maxOutput?: number;
}

export interface TerminalResult {
  readonly code: number;
  readonly stdout: Buffer;
}

const MAX_OUTPUT = 64 * 1024 * 1024;

export async function runOnTerminal(
  argv: readonly string[],
  options: TerminalOptions = {},
): Promise<TerminalResult> {
  const [file = '', ...args] = argv;
  const stdin = options.input === undefined ? 'inherit' : 'pipe';
  const child = spawn(file, args, {
    stdio: [stdin, options.capture === true ? 'pipe' : 'inherit', 'inherit'],
  });
  const chunks: Buffer[] = [];
  let size = 0;
  child.stdout?.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size > (options.maxOutput ?? MAX_OUTPUT)) child.kill();
    else chunks.push(chunk);
  });
  child.stdin?.on('error', () => undefined); // a program that does not read its input is not our failure
  child.stdin?.end(options.input);
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', (error) => reject(missing(file, error)));
    child.once('close', (status) => resolve(status ?? 1));
  });
  return { code, stdout: Buffer.concat(chunks) };
}

function missing(file: string, cause: Error): SlipwayError {
  return new SlipwayError('missing_tool', `${file} could not be started.`, {
    next: `Install ${file}, or name another program.`,
    cause,
  });
}
