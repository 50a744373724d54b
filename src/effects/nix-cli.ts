// The Nix commands that the pipeline needs, in forms that every Nix from 2.8 on understands: `nix eval --expr` with
// builtins.getFlake, and the stable `nix-store` for everything that touches the store. No output formats that moved.
import { SlipwayError } from '../util/errors.ts';
import { dieWithParent } from './die-with-parent.ts';
import { exec, type ExecOptions, type ExecResult } from './exec.ts';
import { formatNixConfig, type NixSettings } from './nix-config.ts';
import { parseNixError } from './nix-error.ts';
import { watchMemory } from './process-memory.ts';

/** How Nix is called: made once a run by `openNix`, passed to every function here. */
export interface Nix {
  readonly env: Readonly<Record<string, string>>;
}

export interface EvaluateOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  /** Resident bytes of the evaluator at which it is stopped with the error `too_large`. */
  readonly memoryLimit?: number;
}

export interface RealiseOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  /** Each line of Nix's stderr: internal-json events (`@nix {…}`) and whatever else is said. */
  readonly onLine: (line: string) => void;
}

const EVALUATE_TIMEOUT_MS = 600_000;
const REALISE_TIMEOUT_MS = 6 * 3_600_000;
const QUERY_TIMEOUT_MS = 60_000;
/** Longest list of store paths in one argv; ARG_MAX is 2 MiB on Linux, a path about 100 bytes. */
const ARGV_PATHS = 2000;

export function openNix(settings: NixSettings = {}): Nix {
  return { env: { NIX_CONFIG: formatNixConfig(settings, process.env['NIX_CONFIG']), LC_ALL: 'C' } };
}

/** Evaluates a Nix expression (pure mode) to JSON; a failure is `evaluation_failed` with Nix's innermost error. */
export async function evaluateNix(
  nix: Nix,
  expression: string,
  options: EvaluateOptions = {},
): Promise<unknown> {
  using guard = new MemoryGuard(options.memoryLimit);
  const result = await exec(dieWithParent(['nix', 'eval', '--json', '--expr', expression]), {
    env: nix.env,
    timeoutMs: options.timeoutMs ?? EVALUATE_TIMEOUT_MS,
    signal: guard.signal(options.signal),
    onStart: (pid) => guard.watch(pid),
  }).catch((error: unknown) => guard.explain(error));
  if (result.code !== 0) throw evaluationFailed(result);
  return JSON.parse(result.stdout.toString('utf8')) as unknown;
}

/**
 * Builds or substitutes store paths and derivations, each as far as it gets (`--keep-going`). Returns Nix's exit code
 * (a bit mask from 100 on); which outputs are there is for `findInvalidPaths` to say.
 */
export async function realisePaths(
  nix: Nix,
  paths: readonly string[],
  options: RealiseOptions,
): Promise<number> {
  const flags = ['--keep-going', '--log-format', 'internal-json', '-v'];
  const result = await exec(dieWithParent(['nix-store', '--realise', ...paths, ...flags]), {
    env: nix.env,
    timeoutMs: options.timeoutMs ?? REALISE_TIMEOUT_MS,
    onStderrLine: options.onLine,
    ...(options.signal && { signal: options.signal }),
  });
  return result.code;
}

/** Keeps valid store paths from the garbage collector for as long as the links `prefix`, `prefix-2`, … exist. */
export async function rootPaths(
  nix: Nix,
  paths: readonly string[],
  prefix: string,
  signal?: AbortSignal,
): Promise<void> {
  await nixStore(nix, ['--realise', ...paths, '--add-root', prefix, '--indirect'], signal);
}

/** Those of the store paths that are not valid in the local store. */
export async function findInvalidPaths(
  nix: Nix,
  paths: readonly string[],
  signal?: AbortSignal,
): Promise<Set<string>> {
  const invalid = new Set<string>();
  for (let at = 0; at < paths.length; at += ARGV_PATHS) {
    const some = paths.slice(at, at + ARGV_PATHS);
    const text = await nixStore(nix, ['--check-validity', '--print-invalid', ...some], signal);
    for (const line of lines(text)) invalid.add(line);
  }
  return invalid;
}

/** The derivations and sources that the derivations need, themselves included. */
export async function readRequisites(
  nix: Nix,
  paths: readonly string[],
  signal?: AbortSignal,
): Promise<string[]> {
  return lines(await nixStore(nix, ['--query', '--requisites', ...paths], signal));
}

/** The build log of a derivation, if the store kept one. */
export async function findBuildLog(
  nix: Nix,
  drvPath: string,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const result = await exec(['nix-store', '--read-log', drvPath], query(nix, signal));
  return result.code === 0 && result.stdout.length > 0 ? result.stdout.toString('utf8') : undefined;
}

/** Systems that this machine builds for: its own, its emulated ones, and those of its remote builders. */
export async function readBuildSystems(nix: Nix, signal?: AbortSignal): Promise<Set<string>> {
  const settings = await readSettings(nix, signal);
  const own = [settings['system'], settings['extra-platforms']].flatMap((value) => value ?? []);
  const builders = settings['builders'];
  const machines = typeof builders === 'string' ? await readMachines(builders) : '';
  return new Set([...own, ...parseMachineSystems(machines)].map(String));
}

/** Copies closures to a store URL that Nix itself can write to (`file://`, `s3://`, `ssh://`, …). */
export async function copyClosures(
  nix: Nix,
  storeUrl: string,
  paths: readonly string[],
  options: RealiseOptions,
): Promise<void> {
  const result = await exec(dieWithParent(['nix', 'copy', '--to', storeUrl, ...paths]), {
    env: nix.env,
    timeoutMs: options.timeoutMs ?? REALISE_TIMEOUT_MS,
    onStderrLine: options.onLine,
    ...(options.signal && { signal: options.signal }),
  });
  if (result.code === 0) return;
  throw new SlipwayError(
    'unavailable',
    `The closures could not be copied to ${storeUrl}: ${parseNixError(result.stderr).message}`,
    {
      next: 'Check the URL and its credentials; nothing was published.',
    },
  );
}

/** The second column of a machines file (`uri systems key …`), one machine a line or separated by `;`. */
export function parseMachineSystems(machines: string): string[] {
  return machines
    .split(/[\n;]/)
    .map((line) => line.replace(/#.*/, '').trim().split(/\s+/)[1] ?? '')
    .flatMap((systems) => systems.split(','))
    .filter((system) => system !== '' && system !== '-');
}

async function readMachines(builders: string): Promise<string> {
  const file = /^@(\S+)$/.exec(builders.trim())?.[1];
  if (file === undefined) return builders;
  const result = await exec(['cat', file], { timeoutMs: 5_000 });
  return result.code === 0 ? result.stdout.toString('utf8') : '';
}

async function readSettings(nix: Nix, signal: AbortSignal | undefined): Promise<Record<string, unknown>> {
  let result = await exec(['nix', 'show-config', '--json'], query(nix, signal));
  if (result.code !== 0) result = await exec(['nix', 'config', 'show', '--json'], query(nix, signal));
  if (result.code !== 0) throw nixFailed('nix show-config', result);
  const settings = JSON.parse(result.stdout.toString('utf8')) as Record<string, { value: unknown }>;
  return Object.fromEntries(Object.entries(settings).map(([name, setting]) => [name, setting.value]));
}

async function nixStore(nix: Nix, args: readonly string[], signal: AbortSignal | undefined): Promise<string> {
  const result = await exec(['nix-store', ...args], query(nix, signal));
  if (result.code !== 0) throw nixFailed(`nix-store ${args[0] ?? ''}`, result);
  return result.stdout.toString('utf8');
}

function query(nix: Nix, signal: AbortSignal | undefined): ExecOptions {
  return { env: nix.env, timeoutMs: QUERY_TIMEOUT_MS, ...(signal && { signal }) };
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

function nixFailed(command: string, result: ExecResult): SlipwayError {
  return new SlipwayError('internal', `${command} failed: ${parseNixError(result.stderr).message}`, {
    next: 'Run "slipway doctor" to see whether Nix works on this machine.',
    facts: { exit: result.code },
  });
}

function evaluationFailed(result: ExecResult): SlipwayError {
  const { message, detail } = parseNixError(result.stderr);
  return new SlipwayError('evaluation_failed', message, { facts: { exit: result.code, detail } });
}

/** Aborts an evaluation that outgrows its memory, and says so instead of "cancelled". */
class MemoryGuard {
  readonly #limit: number | undefined;
  readonly #stop = new AbortController();
  #watch: Disposable | undefined;
  #seen = 0;

  constructor(limit: number | undefined) {
    this.#limit = limit;
  }

  signal(parent: AbortSignal | undefined): AbortSignal {
    return parent ? AbortSignal.any([parent, this.#stop.signal]) : this.#stop.signal;
  }

  watch(pid: number): void {
    if (this.#limit === undefined) return;
    this.#watch = watchMemory(pid, this.#limit, (bytes) => {
      this.#seen = bytes;
      this.#stop.abort();
    });
  }

  explain(error: unknown): never {
    if (this.#seen === 0) throw error;
    throw new SlipwayError(
      'too_large',
      `The evaluation used ${toMib(this.#seen)} MiB of memory; its limit is ${toMib(this.#limit ?? 0)} MiB.`,
      { next: 'Raise --eval-memory, or evaluate fewer hosts at a time (--eval-jobs 1).', cause: error },
    );
  }

  [Symbol.dispose](): void {
    this.#watch?.[Symbol.dispose]();
  }
}

function toMib(bytes: number): number {
  return Math.round(bytes / 1024 / 1024);
}
