// A program that stays while a test goes on: its output so far, waiting for a line of it, ending it.
import { exec, type ExecOptions, type ExecResult } from '../../../src/effects/exec.ts';
import { within } from '../../../src/util/deadline.ts';
import { isCode } from '../../../src/util/errors.ts';

const LONGEST_RUN_MS = 6 * 3_600_000;

export interface WorldProcess extends AsyncDisposable {
  /** Every line of stdout and stderr so far. */
  readonly lines: readonly string[];
  /** How it ended; undefined when it was stopped from here. */
  readonly ended: Promise<ExecResult | undefined>;
  /** The first line, past or to come, that matches. Rejects when the program ends first. */
  waitForLine(pattern: RegExp, timeoutMs?: number): Promise<string>;
  /** Sends TERM, after a grace KILL, and waits for the end. */
  stop(): Promise<void>;
  /** Sends a signal to the whole process group. */
  kill(signal: NodeJS.Signals): void;
}

export function startProcess(argv: readonly string[], options: ExecOptions): WorldProcess {
  return new Running(argv, options);
}

class Running implements WorldProcess {
  readonly lines: string[] = [];
  readonly ended: Promise<ExecResult | undefined>;
  readonly #abort = new AbortController();
  readonly #watchers = new Set<(line: string) => void>();
  #pid = 0;

  constructor(argv: readonly string[], options: ExecOptions) {
    const take = (tell?: (line: string) => void) => (line: string) => {
      this.lines.push(line);
      tell?.(line);
      for (const watcher of this.#watchers) watcher(line);
    };
    const signal = options.signal
      ? AbortSignal.any([options.signal, this.#abort.signal])
      : this.#abort.signal;
    this.ended = exec(argv, {
      timeoutMs: LONGEST_RUN_MS,
      ...options,
      signal,
      onStdoutLine: take(options.onStdoutLine),
      onStderrLine: take(options.onStderrLine),
      onStart: (pid) => (this.#pid = pid),
    }).catch((error: unknown) => {
      if (isCode(error, 'cancelled')) return undefined;
      throw error;
    });
    this.ended.catch(() => undefined); // whoever waits for it hears of it
  }

  async waitForLine(pattern: RegExp, timeoutMs = 30_000): Promise<string> {
    const found = this.lines.find((line) => pattern.test(line));
    if (found !== undefined) return found;
    return await within(
      timeoutMs,
      `Waiting for ${String(pattern)}`,
      async () => await this.#nextLine(pattern),
    );
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.ended;
  }

  kill(signal: NodeJS.Signals): void {
    process.kill(-this.#pid, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #nextLine(pattern: RegExp): Promise<string> {
    return await new Promise<string>((resolve, reject) => {
      this.#watchers.add((line) => {
        if (pattern.test(line)) resolve(line);
      });
      void this.ended.finally(() => reject(new Error(`It ended first: ${this.lines.slice(-20).join('\n')}`)));
    });
  }
}
