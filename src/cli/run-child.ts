// One run of the pipeline in a process of its own: `slipway ci run --json`, whose events come back as lines. The server
// outlives whatever happens in there, and secrets travel as file names only.
import { join } from 'node:path';
import { runEvent, type RunEvent, type Stage } from '../api/run-events.ts';
import type { RunStatus } from '../api/fleet-status.ts';
import type { RepositoryConfig } from '../api/server-config.ts';
import { exec } from '../effects/exec.ts';
import { secretFilePath } from '../effects/secret-reference.ts';
import { interrupted } from '../fleet/fleet.ts';
import type { RunOutcome } from '../fleet/run-store.ts';
import { asSlipwayError, messageOf, SlipwayError } from '../util/errors.ts';
import type { ControlPlane } from './control-plane.ts';

export interface RunChildOptions {
  readonly plane: Pick<ControlPlane, 'paths' | 'keys' | 'publicUrl' | 'caches'>;
  readonly repository: RepositoryConfig;
  readonly run: RunStatus;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly onEvent: (event: RunEvent) => void;
}

/** The pipeline ends its own children within 2 s of TERM; it gets a second more than that. */
const KILL_GRACE_MS = 3_000;

/** Runs the pipeline and tells how it ended; never throws. */
export async function runInChild(options: RunChildOptions): Promise<RunOutcome> {
  const told = new ToldEvents(options.onEvent);
  try {
    const result = await exec(
      [process.execPath, join(import.meta.dirname, 'main.ts'), ...runArguments(options)],
      {
        timeoutMs: options.timeoutMs,
        killGraceMs: KILL_GRACE_MS,
        signal: options.signal,
        env: { NO_COLOR: '1', NODE_COMPILE_CACHE: compileCache(options) },
        onStdoutLine: (line) => told.takeLine(line),
        onStderrLine: (line) => told.takeText(line),
      },
    );
    return told.outcome(result.code, result.stderr);
  } catch (error) {
    if (options.signal.aborted) return interrupted('The server was stopped while the run was under way.');
    return failedOutcome(asSlipwayError(error));
  }
}

export function runArguments({
  plane,
  repository,
  run,
}: Omit<RunChildOptions, 'timeoutMs' | 'signal' | 'onEvent'>): string[] {
  const { keys, caches, publicUrl } = plane;
  const token = repository.credentials === undefined ? undefined : secretFilePath(repository.credentials);
  return [
    ['ci', 'run', '--json', '--repository', repository.url, '--source-branch', repository.branch],
    // Whoever starts a run by hand means that commit; all other runs take the branch's tip, whatever woke them.
    run.trigger === 'manual' ? ['--commit', run.commit] : [],
    token === undefined ? [] : ['--git-token-file', token],
    repository.sshKey === undefined ? [] : ['--git-ssh-key', repository.sshKey],
    ['--state-dir', join(plane.paths.root, 'state', repository.name)],
    ['--signing-key', keys.releaseKeyFile, '--rekey-identity', keys.rekeyIdentityFile],
    ['--server', publicUrl, '--cache', ...caches.map(({ name }) => `${publicUrl}/${name}`)],
    ['--cache-token-file', keys.runnerTokenFile],
    ['--cache-public-key', ...caches.flatMap(({ publicKeys }) => publicKeys)],
  ].flat();
}

/** Compiled code of earlier runs, in the data directory, where nobody else writes: 0.2 s instead of 0.5 s to begin. */
function compileCache({ plane }: RunChildOptions): string {
  return process.env['NODE_COMPILE_CACHE'] ?? join(plane.paths.root, 'state', '.compile-cache');
}

/** What the process has said so far. */
class ToldEvents {
  readonly #onEvent: (event: RunEvent) => void;
  #stage: Stage = 'evaluate';
  #problem: Extract<RunEvent, { kind: 'problem' }> | undefined;
  #end: Extract<RunEvent, { kind: 'run-finished' }> | undefined;

  constructor(onEvent: (event: RunEvent) => void) {
    this.#onEvent = onEvent;
  }

  takeLine(line: string): void {
    const event = parseEvent(line);
    if (event === 'unknown') return;
    if (event === 'text') return this.takeText(line);
    if (event.kind === 'stage-started') this.#stage = event.stage;
    if (event.kind === 'problem') this.#problem ??= event;
    if (event.kind === 'run-finished') this.#end = event;
    this.#onEvent(event);
  }

  takeText(line: string): void {
    if (line.trim() === '') return;
    this.#onEvent({ kind: 'log', at: new Date().toISOString(), stage: this.#stage, line });
  }

  outcome(exit: number, stderr: string): RunOutcome {
    const end = this.#end;
    if (end === undefined) return failedOutcome(endedWithoutWord(exit, stderr));
    const released = {
      ...(end.release !== undefined && { release: end.release }),
      ...(end.serial !== undefined && { serial: end.serial }),
    };
    if (end.outcome !== 'failed') return { state: end.outcome, note: end.note, ...released };
    const problem = this.#problem ?? { code: 'internal', message: end.note };
    return { state: 'failed', note: end.note, problem: problemOf(problem), ...released };
  }
}

/** Kinds that this version does not know are passed over; what is no event at all is text. */
function parseEvent(line: string): RunEvent | 'unknown' | 'text' {
  try {
    const parsed = runEvent.safeParse(JSON.parse(line));
    return parsed.success ? parsed.data : 'unknown';
  } catch {
    return 'text';
  }
}

function problemOf(told: {
  code: string;
  message: string;
  next?: string | undefined;
}): NonNullable<RunOutcome['problem']> {
  const { code, message, next } = told;
  return { code, message, ...(next !== undefined && { next }) };
}

function failedOutcome(error: SlipwayError): RunOutcome {
  const { code, message, next } = error;
  return {
    state: 'failed',
    note: message.split('\n', 1)[0] ?? '',
    problem: problemOf({ code, message, next }),
  };
}

function endedWithoutWord(exit: number, stderr: string): SlipwayError {
  const said = stderr.trim().split('\n').slice(-8).join('\n');
  const how = exit > 128 ? `signal ${exit - 128}` : `exit code ${exit}`;
  return new SlipwayError(
    'internal',
    `The run's process ended with ${how}, without a last word.\n${said}`.trim(),
    {
      next: 'If it ran out of memory, see "journalctl -k"; else start it again by hand.',
      cause: messageOf(said),
    },
  );
}
