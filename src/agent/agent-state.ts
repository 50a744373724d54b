// What the agent remembers between polls: <stateDir>/state.json, written by the running agent alone (temporary
// file, fsync, rename, fsync of the folder). Everything that can be looked up on the host is looked up instead.
import * as z from 'zod/mini';
import { agentOperation, trialResult } from '../api/agent-report.ts';
import { deployId } from '../api/deploy-state.ts';
import { gitCommit, storePathText } from '../api/manifest.ts';
import { readJsonFile, writeFileDurably } from './durable-file.ts';
import path from 'node:path';

const at = z.iso.datetime();

/** A release as this host sees it. */
const hostRelease = z.object({
  serial: z.int(),
  commit: gitCommit,
  toplevel: storePathText,
  /** Made for this host alone, on a branch that comes and goes. */
  testing: z.optional(z.literal(true)),
});

export const quarantineEntry = z.object({
  toplevel: storePathText,
  serial: z.int(),
  commit: gitCommit,
  reason: z.string(),
  detail: z.string(),
  at,
});

/** A trial under way: enough for a restarted agent to go on where the killed one stopped. */
const trialRecord = z.object({
  id: deployId,
  release: hostRelease,
  /** The probes that passed before the activation: only these may fail the trial. */
  baseline: z.array(
    z.object({ kind: z.enum(['remote', 'cache', 'controller']), name: z.string(), url: z.string() }),
  ),
  startedAt: at,
});

export const agentState = z.object({
  version: z.literal(1),
  /** The newest release that this host runs as its committed system. */
  applied: z.optional(z.extend(hostRelease, { at })),
  /** The newest release of the main branch that was taken, itself or below a testing release; no tip may go behind it. */
  mainline: z.optional(hostRelease),
  lastAttempted: z.optional(z.extend(hostRelease, { at })),
  lastResult: z.optional(trialResult),
  quarantine: z.array(quarantineEntry),
  trial: z.optional(trialRecord),
  /** A commit that an operator accepted although the history was rewritten. */
  accepted: z.optional(gitCommit),
  operation: z.object({ name: agentOperation, since: at }),
  /** The last decision, for `agent status`. */
  seen: z.optional(
    z.object({
      decision: z.enum(['apply', 'current', 'wait', 'refuse']),
      reason: z.string(),
      detail: z.string(),
      next: z.optional(z.string()),
      release: z.optional(hostRelease),
      at,
    }),
  ),
  remotes: z.array(z.object({ url: z.string(), ok: z.boolean(), note: z.string(), at })),
  controller: z.optional(
    z.object({
      ok: z.boolean(),
      note: z.string(),
      at,
      hold: z.optional(z.string()),
      answeredAt: z.optional(at),
    }),
  ),
  /** Consecutive failures that may pass by themselves, and the time before which nothing is tried again. */
  retry: z.optional(
    z.object({ toplevel: storePathText, failures: z.int(), notBefore: at, note: z.string() }),
  ),
  /** Requests of `agent sync|retry|accept` that were answered, newest last. */
  answered: z.array(z.string()),
  updatedAt: at,
});

export type AgentState = z.infer<typeof agentState>;
export type HostRelease = z.infer<typeof hostRelease>;
export type QuarantineEntry = z.infer<typeof quarantineEntry>;
export type TrialRecord = z.infer<typeof trialRecord>;

const MAX_ANSWERED = 32;

export function emptyAgentState(now: Date): AgentState {
  const stamp = now.toISOString();
  return {
    version: 1,
    quarantine: [],
    operation: { name: 'idle', since: stamp },
    remotes: [],
    answered: [],
    updatedAt: stamp,
  };
}

/** The state on disk; undefined before the first poll. A damaged file is the error `invalid`, never overwritten. */
export async function findAgentState(stateDir: string): Promise<AgentState | undefined> {
  return await readJsonFile(stateFile(stateDir), agentState);
}

export async function writeAgentState(stateDir: string, state: AgentState): Promise<void> {
  const kept = { ...state, answered: state.answered.slice(-MAX_ANSWERED) };
  await writeFileDurably(stateFile(stateDir), `${JSON.stringify(kept, undefined, 2)}\n`);
}

/** What the main branch may not go behind. A state that was written before testing releases had a mark names none. */
export function mainlineOf({ applied, mainline }: AgentState): HostRelease | undefined {
  return mainline ?? (applied?.testing === true ? undefined : applied);
}

/** The state with this toplevel quarantined; an entry of the same toplevel is replaced. */
export function withQuarantine(state: AgentState, entry: QuarantineEntry): AgentState {
  const others = state.quarantine.filter((known) => known.toplevel !== entry.toplevel);
  return { ...state, quarantine: [...others, entry] };
}

/** The state without the given quarantined toplevel, or without any. */
export function withoutQuarantine(state: AgentState, toplevel: string | undefined): AgentState {
  const kept = toplevel === undefined ? [] : state.quarantine.filter((entry) => entry.toplevel !== toplevel);
  return { ...state, quarantine: kept };
}

function stateFile(stateDir: string): string {
  return path.join(stateDir, 'state.json');
}
