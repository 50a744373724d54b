// Runs a program: argv without a shell, bounded output, a deadline, and death of the whole process group.
import { spawn } from 'node:child_process';
import { Duplex, type Readable } from 'node:stream';
import { SlipwayError } from '../util/errors.ts';
import { LineSplitter } from '../util/lines.ts';

export interface ExecOptions {
  readonly cwd?: string;
  /** Variables added to the inherited environment; `undefined` removes one. Never a secret: use `input` or `secret`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly input?: Uint8Array | string;
  /**
   * Offered once on file descriptor 3, which the program's own children inherit: the way for a secret that must
   * be in no argv, environment or file.
   */
  readonly secret?: Uint8Array | string;
  /** Longest run in ms. Default 10 minutes. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Time in ms between TERM and KILL. Default 2 s; a program that ends programs of its own needs more than they do. */
  readonly killGraceMs?: number;
  /** Called for each line of stderr as it arrives. */
  readonly onStderrLine?: (line: string) => void;
  /** Called for each line of stdout as it arrives; stdout is then not collected. */
  readonly onStdoutLine?: (line: string) => void;
  /** Called once with the process id of the child's group leader. */
  readonly onStart?: (pid: number) => void;
  /** Most bytes of stdout to collect. Default 64 MiB; more is the error `too_large`. */
  readonly maxOutput?: number;
}

export interface ExecResult {
  /** Exit code; 128 + n when a signal ended the program. */
  readonly code: number;
  readonly stdout: Buffer;
  /** The last 64 KiB of stderr. */
  readonly stderr: string;
}

const STDERR_TAIL = 64 * 1024;
const KILL_GRACE_MS = 2_000;
const HELD_OUTPUT_MS = 1_000;

/** Runs `argv` and returns its result whatever the exit code; throws on timeout, abort, or a missing program. */
export async function exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  const [file = '', ...args] = argv;
  options.signal?.throwIfAborted();
  const child = spawn(file, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: options.secret === undefined ? ['pipe', 'pipe', 'pipe'] : ['pipe', 'pipe', 'pipe', 'pipe'],
    detached: true,
  });
  offerSecret(child.stdio[3], options.secret);
  const guard = new Guard(file, child.pid, options);
  const stdout = new Collector(child.stdout, options.maxOutput ?? 64 * 1024 * 1024, () => guard.overflow());
  const stderr = new Tail(child.stderr, options.onStderrLine);
  if (options.onStdoutLine) stdout.lines(options.onStdoutLine);
  child.stdin.on('error', () => undefined); // a program that does not read its input is not our failure
  child.stdin.end(options.input ?? '');
  if (child.pid !== undefined) options.onStart?.(child.pid);
  // A killed program's output may be held open by a process outside of its group (ssh hands it to its control master).
  child.once('exit', () => guard.dropOutput(child.stdout, child.stderr));
  child.once('exit', () => releaseOutput(child.stdout, child.stderr));
  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', (error) => reject(missingProgram(file, error)));
      child.once('close', (status, signal) => resolve(status ?? 128 + signalNumber(signal)));
    });
    guard.throwIfTripped();
    return { code, stdout: stdout.bytes(), stderr: stderr.text() };
  } finally {
    guard.stop();
  }
}

/** Runs `argv` and returns its stdout as text; a non-zero exit is an error that carries the end of stderr. */
export async function execText(argv: readonly string[], options: ExecOptions = {}): Promise<string> {
  const result = await exec(argv, options);
  if (result.code !== 0) throw commandFailed(argv, result);
  return result.stdout.toString('utf8');
}

export function commandFailed(argv: readonly string[], result: ExecResult): SlipwayError {
  const said = result.stderr.trim().split('\n').slice(-12).join('\n');
  return new SlipwayError(
    'internal',
    `${argv[0] ?? ''} ${argv[1] ?? ''} ended with exit code ${result.code}: ${said}`,
    {
      facts: { argv, exit: result.code },
    },
  );
}

/**
 * A program that ended has said what it had to say: whoever else holds its output open must not hold us up. What is in
 * the pipe is read first, however busy we are: only when a second went by without a byte the streams are closed.
 */
function releaseOutput(...streams: readonly Readable[]): void {
  let arrived = true;
  for (const stream of streams) stream.on('data', () => (arrived = true));
  const timer = setInterval(() => {
    if (!arrived) for (const stream of streams) stream.destroy();
    if (!arrived || streams.every(({ destroyed }) => destroyed)) clearInterval(timer);
    arrived = false;
  }, HELD_OUTPUT_MS);
  timer.unref();
}

function offerSecret(stream: unknown, secret: Uint8Array | string | undefined): void {
  if (secret === undefined || !(stream instanceof Duplex)) return;
  stream.on('error', () => undefined); // a program that does not ask for the secret is not our failure
  stream.resume();
  stream.end(secret);
}

function missingProgram(file: string, error: Error): SlipwayError {
  if ('code' in error && error.code !== 'ENOENT')
    return new SlipwayError('internal', error.message, { cause: error });
  return new SlipwayError('missing_tool', `The program ${file} was not found.`, {
    next: `Install ${file}, or run "slipway doctor" to see everything that is missing.`,
    cause: error,
  });
}

function signalNumber(signal: NodeJS.Signals | null): number {
  return signal === 'SIGKILL' ? 9 : 15;
}

/** Kills the child's process group on deadline, abort or overflow: first TERM, after a grace KILL. */
class Guard {
  readonly #name: string;
  readonly #pid: number | undefined;
  readonly #options: ExecOptions;
  readonly #timer: NodeJS.Timeout;
  #killTimer: NodeJS.Timeout | undefined;
  #tripped: SlipwayError | undefined;

  constructor(name: string, pid: number | undefined, options: ExecOptions) {
    this.#name = name;
    this.#pid = pid;
    this.#options = options;
    const ms = options.timeoutMs ?? 600_000;
    this.#timer = setTimeout(() => this.#trip('timeout', `${name} took longer than ${ms / 1000} s.`), ms);
    options.signal?.addEventListener('abort', this.#abort, { once: true });
  }

  overflow(): void {
    this.#trip('too_large', `${this.#name} printed more than it may.`);
  }

  throwIfTripped(): void {
    if (this.#tripped) throw this.#tripped;
  }

  /** After a kill there is nothing to wait for on these streams. */
  dropOutput(...streams: readonly Readable[]): void {
    if (this.#tripped) for (const stream of streams) stream.destroy();
  }

  stop(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#killTimer);
    this.#options.signal?.removeEventListener('abort', this.#abort);
  }

  readonly #abort = (): void => this.#trip('cancelled', `${this.#name} was cancelled.`);

  #trip(code: 'timeout' | 'cancelled' | 'too_large', message: string): void {
    if (this.#tripped) return;
    this.#tripped = new SlipwayError(code, message);
    this.#kill('SIGTERM');
    this.#killTimer = setTimeout(() => this.#kill('SIGKILL'), this.#options.killGraceMs ?? KILL_GRACE_MS);
  }

  #kill(signal: NodeJS.Signals): void {
    if (this.#pid === undefined) return;
    try {
      process.kill(-this.#pid, signal);
    } catch {
      // the group is gone already
    }
  }
}

class Collector {
  readonly #chunks: Buffer[] = [];
  #splitter: LineSplitter | undefined;

  constructor(stream: Readable, limit: number, overflow: () => void) {
    let size = 0;
    stream.on('data', (chunk: Buffer) => {
      if (this.#splitter) return this.#splitter.push(chunk);
      size += chunk.length;
      if (size > limit) return overflow();
      this.#chunks.push(chunk);
    });
    stream.on('end', () => this.#splitter?.end());
  }

  lines(onLine: (line: string) => void): void {
    this.#splitter = new LineSplitter(onLine);
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}

class Tail {
  #text = '';

  constructor(stream: Readable, onLine: ((line: string) => void) | undefined) {
    const splitter = new LineSplitter((line) => {
      this.#text = (this.#text + line + '\n').slice(-STDERR_TAIL);
      onLine?.(line);
    });
    stream.on('data', (chunk: Buffer) => splitter.push(chunk));
    stream.on('end', () => splitter.end());
  }

  text(): string {
    return this.#text;
  }
}
