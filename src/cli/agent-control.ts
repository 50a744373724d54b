// What an operator asks of the agent on this host: requests that it answers, and suspensions that it honours.
import { findRunningAgent } from '../agent/agent-memory.ts';
import { findAgentState } from '../agent/agent-state.ts';
import {
  findSuspension,
  removeSuspension,
  writeAgentRequest,
  writeSuspension,
  type AgentRequest,
} from '../agent/control-files.ts';
import { deadline, sleep } from '../util/deadline.ts';
import { SlipwayError } from '../util/errors.ts';
import { parseDuration } from './parse-duration.ts';

const LOOK_EVERY_MS = 100;

export interface AskOptions {
  /** How long to wait for the answer (`10m`); undefined: not at all. */
  readonly waitSeconds: string | undefined;
  readonly signal: AbortSignal;
}

/** Leaves the request and waits until the agent has acted on it; false when it was not to be waited for. */
export async function askAgent(
  stateDir: string,
  request: AgentRequest,
  options: AskOptions,
): Promise<boolean> {
  const seconds = options.waitSeconds === undefined ? undefined : parseDuration(options.waitSeconds);
  await requireAgent(stateDir);
  const id = await writeAgentRequest(stateDir, request);
  if (seconds === undefined) return false;
  await untilAnswered(stateDir, id, deadline(seconds * 1000, options.signal));
  return true;
}

export interface SuspendOptions {
  readonly reason: string;
  readonly for: string;
}

/** Suspends the agent from now on; a trial under way is finished. */
export async function suspendAgent(
  stateDir: string,
  options: SuspendOptions,
  env: Readonly<Record<string, string | undefined>>,
): Promise<{ readonly until: string; readonly text: string }> {
  const now = Date.now();
  const until = new Date(now + parseDuration(options.for) * 1000).toISOString();
  const by = env['SUDO_USER'] ?? env['USER'] ?? 'root';
  await writeSuspension(stateDir, { reason: options.reason, by, since: new Date(now).toISOString(), until });
  await tellAgent(stateDir);
  return { until, text: `Suspended until ${until}: ${options.reason}` };
}

export async function resumeAgent(stateDir: string): Promise<string> {
  const before = await findSuspension(stateDir, new Date());
  await removeSuspension(stateDir);
  await tellAgent(stateDir);
  return before === undefined ? 'The agent was not suspended.' : 'The agent takes releases again.';
}

/** An agent that does not run finds the suspension when it starts. */
async function tellAgent(stateDir: string): Promise<void> {
  const running = await findRunningAgent(stateDir);
  if (running !== undefined) await writeAgentRequest(stateDir, { kind: 'sync' });
}

async function requireAgent(stateDir: string): Promise<void> {
  const running = await findRunningAgent(stateDir);
  if (running !== undefined) return;
  throw new SlipwayError('unavailable', 'No agent runs on this host.', {
    next: 'Start it: systemctl start slipway-agent. "journalctl -u slipway-agent" says why it ended.',
  });
}

async function untilAnswered(stateDir: string, id: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    const state = await findAgentState(stateDir);
    if (state?.answered.includes(id) === true) return;
    await sleep(LOOK_EVERY_MS, signal).catch(() => {
      throw new SlipwayError('timeout', 'The agent did not answer in time.', {
        next: 'It may be in a trial: "slipway agent status" shows what it does.',
      });
    });
    await requireAgent(stateDir);
  }
}
