// The driver's side of host/activate.sh: start a trial, watch it, confirm or reject it, resolve what was interrupted.
// Used by push deploys over ssh and by the agent on its own host alike; the truth is always the host's state file.
import { type HookResult, hookResult, NO_HOOKS } from '../api/deploy-hooks.ts';
import { deployState, type DeployIntent, type DeployState, isFinal } from '../api/deploy-state.ts';
import type { Host } from '../effects/host.ts';
import { SlipwayError } from '../util/errors.ts';
import type { DeployRequest } from './deploy-request.ts';
import { formatHooks } from './hook-plan.ts';
import { DEPLOY_FOLDER, formatInstallScript, readRunner } from './runner-script.ts';
import { formatChecks, formatIntent, longestTrial } from './trial-intent.ts';

const CALL_TIMEOUT_MS = 60_000;
/** `start` writes to disk with fsync and asks systemd twice. */
const START_TIMEOUT_MS = 120_000;
const END_GRACE_MS = 2_000;
/** The host gives a sign of life about every 5 s; a session that is silent for longer is lost, whatever ssh thinks. */
const SILENCE_MS = 45_000;
const EXIT_NOT_WAITING = 3;
const EXIT_WRONG_TOKEN = 4;

export interface TrialWatcher {
  /** Each state once, in order. */
  readonly onState: (state: DeployState) => void;
  /** Lines of activate.log: the runner's and the activation's own words. */
  readonly onLog?: (line: string) => void;
  /** What became of the hooks on the host, at the end. */
  readonly onHook?: (result: HookResult) => void;
}

/** Puts the runner on the host and starts it. Returns once the host has taken charge (PREPARED) or has REFUSED. */
export async function startTrial(
  host: Host,
  intent: DeployIntent,
  request: Pick<DeployRequest, 'health' | 'hooks' | 'force'>,
): Promise<DeployState> {
  const files = {
    id: intent.id,
    intent: formatIntent(intent),
    checks: formatChecks(request.health),
    hooks: formatHooks(request.hooks ?? NO_HOOKS),
  };
  const script = formatInstallScript(await readRunner(), files, request.force === true);
  const result = await host.run(['sh', '-s'], { input: script, timeoutMs: START_TIMEOUT_MS });
  return parseState(host, result.stdout.toString('utf8'), result.stderr);
}

/**
 * Follows the trial until its final state. A lost connection is `host_unreachable`; call it again to go on: it starts
 * with all states from the beginning, and wakes a trial whose runner a reboot took away.
 */
export async function watchTrial(
  host: Host,
  intent: Pick<DeployIntent, 'id'> & Partial<DeployIntent>,
  watcher: TrialWatcher,
  signal?: AbortSignal,
): Promise<DeployState> {
  const story = new Story(watcher);
  const told = new AbortController();
  const silent = new AbortController();
  const silence = setTimeout(() => silent.abort(), SILENCE_MS);
  const take = (line: string): void => {
    silence.refresh();
    // All is said. ssh may yet not end: its master can hold on to a session's output.
    if (line === 'end') setTimeout(() => told.abort(), END_GRACE_MS).unref();
    story.take(line);
  };
  const limit = AbortSignal.any([told.signal, silent.signal, ...(signal === undefined ? [] : [signal])]);
  try {
    const options = { timeoutMs: longestWatch(intent), onStdoutLine: take, signal: limit };
    const result = await runner(host, intent.id, ['status', '--follow'], options);
    if (story.final !== undefined) return story.final;
    throw new SlipwayError(
      'host_unreachable',
      `Watching the deploy on ${host.name} ended early (exit ${result.code}): ${result.stderr.trim()}`,
    );
  } catch (error) {
    if (told.signal.aborted && story.final !== undefined) return story.final;
    if (silent.signal.aborted && signal?.aborted !== true) throw wentSilent(host, error);
    throw error;
  } finally {
    clearTimeout(silence);
  }
}

function wentSilent(host: Host, cause: unknown): SlipwayError {
  const text = `Nothing was heard from the deploy on ${host.name} for ${SILENCE_MS / 1000} s.`;
  return new SlipwayError('host_unreachable', text, { cause });
}

/** What a followed trial has told so far. */
class Story {
  readonly #watcher: TrialWatcher;
  #last: DeployState | undefined;

  constructor(watcher: TrialWatcher) {
    this.#watcher = watcher;
  }

  get final(): DeployState | undefined {
    return this.#last !== undefined && isFinal(this.#last.phase) ? this.#last : undefined;
  }

  take(line: string): void {
    if (line.startsWith('log ')) this.#watcher.onLog?.(line.slice(4));
    if (line.startsWith('hook ')) takeHook(line.slice(5), this.#watcher);
    if (!line.startsWith('state ')) return;
    const state = findState(line.slice(6)); // a power cut may have torn a line of the events; the state file is whole
    if (state === undefined) return;
    if (state.phase !== this.#last?.phase) this.#watcher.onState(state);
    this.#last = state;
  }
}

/** Makes the trial permanent. `accepted: false` tells with `state` why not: it no longer waits, or the token is wrong. */
export async function confirmTrial(
  host: Host,
  id: string,
  token = '',
): Promise<{ readonly accepted: boolean; readonly state: DeployState }> {
  const result = await runner(host, id, ['confirm'], { input: `${token}\n` });
  const state = parseState(host, result.stdout.toString('utf8'), result.stderr);
  if (result.code === EXIT_WRONG_TOKEN)
    throw new SlipwayError('forbidden', `${host.name} did not accept the confirmation token.`);
  return { accepted: result.code !== EXIT_NOT_WAITING, state };
}

/**
 * Gives the trial up: the host rolls back by itself. `reason` is a word for machines; `probes-failed` quarantines the
 * toplevel, `cancelled` and others do not.
 */
export async function rejectTrial(host: Host, id: string, reason: string, detail = ''): Promise<DeployState> {
  const result = await runner(host, id, ['reject', reason, detail]);
  return parseState(host, result.stdout.toString('utf8'), result.stderr);
}

/** The state of one trial as the host has it on disk. */
export async function readTrial(host: Host, id: string): Promise<DeployState> {
  const result = await runner(host, id, ['status']);
  return parseState(host, result.stdout.toString('utf8'), result.stderr);
}

/** Begins to resolve every trial that a reboot or a crash interrupted; does not wait for their ends. */
export async function resumeTrials(host: Host): Promise<void> {
  await callRunner(host, ['recover', '--no-wait']);
}

/** All deploys that the host has on record, newest first; one that is not final is going on. */
export async function listTrials(host: Host): Promise<DeployState[]> {
  const text = await callRunner(host, ['list']);
  return lines(text)
    .map(findState)
    .filter((state) => state !== undefined)
    .toSorted((a, b) => (a.id < b.id ? 1 : -1));
}

export interface QuarantineEntry {
  readonly toplevel: string;
  readonly reason: string;
  /** ISO 8601. */
  readonly at: string;
}

/** Toplevels that the host refuses to try again. */
export async function readQuarantine(host: Host): Promise<QuarantineEntry[]> {
  return lines(await callRunner(host, ['quarantined'])).map((line) => {
    const [toplevel = '', reason = '', at = ''] = line.split(' ');
    return { toplevel, reason, at };
  });
}

/** Takes a toplevel out of the quarantine. */
export async function forgiveToplevel(host: Host, toplevel: string): Promise<void> {
  await callRunner(host, ['forgive', toplevel]);
}

/** Calls the runner without a deploy folder: the script itself travels on stdin. */
export async function callRunner(
  host: Host,
  args: readonly string[],
  timeoutMs = CALL_TIMEOUT_MS,
): Promise<string> {
  const result = await host.run(['sh', '-s', '--', ...args], { input: await readRunner(), timeoutMs });
  if (result.code === 0) return result.stdout.toString('utf8');
  throw new SlipwayError('internal', `"${args.join(' ')}" failed on ${host.name}: ${result.stderr.trim()}`);
}

async function runner(
  host: Host,
  id: string,
  [command = '', ...args]: readonly string[],
  options: Parameters<Host['run']>[1] = {},
): ReturnType<Host['run']> {
  const folder = `${DEPLOY_FOLDER}/${id}`;
  const argv = ['/bin/sh', `${folder}/activate.sh`, command, folder, ...args];
  return await host.run(argv, { timeoutMs: CALL_TIMEOUT_MS, ...options });
}

function longestWatch(intent: Partial<DeployIntent>): number {
  const complete = intent.lockTimeout === undefined ? 86_400 : longestTrial(intent as DeployIntent);
  return complete * 1000;
}

function parseState(host: Host, text: string, stderr: string): DeployState {
  const state = findState(lines(text).at(-1) ?? '');
  if (state !== undefined) return state;
  const said = stderr.trim() || text.trim() || 'nothing was printed';
  throw new SlipwayError('internal', `${host.name} gave no state of the deploy: ${said}`, {
    next: `Look at ${DEPLOY_FOLDER} on ${host.name}.`,
  });
}

function takeHook(line: string, watcher: TrialWatcher): void {
  try {
    watcher.onHook?.(hookResult.parse(JSON.parse(line)));
  } catch {
    // a power cut tore the line: nothing is known of that hook
  }
}

function findState(line: string): DeployState | undefined {
  try {
    return deployState.parse(JSON.parse(line));
  } catch {
    return undefined;
  }
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}
