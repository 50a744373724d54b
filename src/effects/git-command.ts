// Runs the system's git in a clean, private environment: no user or system configuration, no prompts, no hooks,
// English messages, no background maintenance. ssh keeps the user's agent and ~/.ssh, curl keeps ~/.netrc.
import { isAbsolute } from 'node:path';
import { type ErrorCode, SlipwayError } from '../util/errors.ts';
import { exec, type ExecOptions, type ExecResult } from './exec.ts';

export interface GitOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  readonly input?: Uint8Array | string;
  readonly env?: Readonly<Record<string, string>>;
  /** See ExecOptions.secret: what the credential helper hands out. */
  readonly secret?: Uint8Array | string;
}

/** Settings that hold for every call; `-c` outranks every file, so a hostile mirror configuration has no effect. */
const SETTINGS = [
  'core.hooksPath=/dev/null',
  'core.fsmonitor=false',
  'gc.auto=0',
  'maintenance.auto=false',
  'credential.helper=',
  'advice.detachedHead=false',
  'protocol.ext.allow=never',
].flatMap((setting) => ['-c', setting]);

const LOCAL_TIMEOUT_MS = 60_000;

/** Runs git on the repository `directory` (its git directory), whatever the exit code. */
export async function runGit(
  directory: string,
  args: readonly string[],
  options: GitOptions = {},
): Promise<ExecResult> {
  const place = directory === '' ? [] : ['--git-dir', directory];
  return await exec(['git', ...place, ...SETTINGS, ...args], {
    ...execOptions(options),
    env: { ...gitEnvironment(), ...options.env },
  });
}

/** Like `runGit`, returns stdout; a non-zero exit becomes the error that fits what git said. */
export async function gitText(
  directory: string,
  args: readonly string[],
  options: GitOptions = {},
): Promise<string> {
  const result = await runGit(directory, args, options);
  if (result.code !== 0) throw gitFailed(args, result);
  return result.stdout.toString('utf8').trim();
}

/** A failure that no caller understood better: git's own last words. */
export function gitFailed(
  args: readonly string[],
  result: ExecResult,
  code: ErrorCode = 'repository_unusable',
): SlipwayError {
  const command = args.find((arg) => !arg.startsWith('-') && !arg.includes('=')) ?? '';
  return new SlipwayError(code, `git ${command} failed: ${lastWords(result)}`, {
    facts: { exit: result.code },
  });
}

/** The lines of stderr that say why, without git's hints and progress. */
export function lastWords(result: ExecResult): string {
  const lines = result.stderr.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('hint:'));
  const telling = lines.filter((line) => /^(fatal|error|remote): /.test(line));
  const said = (telling.length > 0 ? telling : lines).slice(-6).join(' ');
  return said === '' ? `exit code ${result.code}` : said;
}

/** The environment of every git process: whatever GIT_* the caller has is gone. */
function gitEnvironment(): Record<string, string | undefined> {
  const inherited = Object.keys(process.env).filter((name) => name.startsWith('GIT_'));
  return {
    ...Object.fromEntries(inherited.map((name) => [name, undefined])),
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_TERMINAL_PROMPT: '0',
    GIT_ASKPASS: '/bin/false',
    SSH_ASKPASS: '/bin/false',
    SSH_ASKPASS_REQUIRE: 'never',
    GIT_OPTIONAL_LOCKS: '0',
    GIT_ATTR_NOSYSTEM: '1',
    LC_ALL: 'C',
    LANGUAGE: undefined,
  };
}

function execOptions(options: GitOptions): ExecOptions {
  return {
    timeoutMs: options.timeoutMs ?? LOCAL_TIMEOUT_MS,
    ...(options.signal && { signal: options.signal }),
    ...(options.input !== undefined && { input: options.input }),
    ...(options.secret !== undefined && { secret: options.secret }),
  };
}

/** A value that git could take for an option is refused before it reaches argv. */
export function assertPlain(kind: string, value: string): void {
  if (value.startsWith('-') || /[\0\n]/.test(value))
    throw new SlipwayError('invalid', `"${value}" is not a ${kind}.`);
}

export function assertAbsolute(path: string): void {
  if (!isAbsolute(path)) throw new SlipwayError('internal', `git directory ${path} is not absolute`);
}
