// What the control plane shows: GET /api/v1/status, GET /api/v1/runs/{id}[/events], and the messages of GET /events.
// Readers ignore fields that they do not know. Nothing here is ever a secret: all of it may be on a screen.
import * as z from 'zod/mini';
import { agentOperation } from './agent-report.ts';
import { hostPhase, runEvent, stage } from './run-events.ts';

const at = z.iso.datetime();

/** The three axes: is it what was released, does it work, what is being done to it. */
export const hostStatus = z.object({
  name: z.string(),
  /** How it gets its systems; `unknown` until a run or a report told. */
  mode: z.enum(['push', 'pull', 'manual', 'unknown']),
  sync: z.enum(['synced', 'out-of-sync', 'unknown']),
  health: z.enum(['healthy', 'progressing', 'degraded', 'suspended', 'unknown']),
  operation: agentOperation,
  /** What runs, and what the newest run wants to run. */
  current: z.optional(z.string()),
  wanted: z.optional(z.string()),
  release: z.optional(z.string()),
  serial: z.optional(z.int()),
  generation: z.optional(z.int()),
  /** One sentence for people: the last thing that was said about this host. */
  note: z.string(),
  /** The newest event of a run that concerned it. */
  lastDeploy: z.optional(z.object({ run: z.string(), phase: hostPhase, note: z.string(), at })),
  lastReport: z.optional(at),
  /** After this time without a report the agent counts as silent. */
  silentAfter: z.optional(at),
  /** How many toplevels it refuses to try again. */
  quarantined: z.int(),
  updatedAt: at,
});

export const runState = z.enum(['queued', 'running', 'done', 'nothing-to-do', 'failed']);

export const runStatus = z.object({
  id: z.string(),
  repository: z.string(),
  branch: z.string(),
  commit: z.string(),
  trigger: z.enum(['webhook', 'poll', 'manual']),
  /** Why it was started, and while it is queued, what it waits for. */
  reason: z.string(),
  waiting: z.optional(z.string()),
  state: runState,
  stage: z.optional(stage),
  createdAt: at,
  startedAt: z.optional(at),
  endedAt: z.optional(at),
  /** How it ended, in one sentence. */
  note: z.string(),
  problem: z.optional(z.object({ code: z.string(), message: z.string(), next: z.optional(z.string()) })),
  release: z.optional(z.string()),
  serial: z.optional(z.int()),
});

export const repositoryStatus = z.object({
  name: z.string(),
  branch: z.string(),
  releaseBranch: z.string(),
  /** The branch's head when it was last read. */
  head: z.optional(z.string()),
  lookedAt: z.optional(at),
  /** Why the branch could not be read. */
  problem: z.optional(z.object({ code: z.string(), message: z.string(), next: z.optional(z.string()) })),
});

export const storedEvent = z.object({
  /** Grows over all runs: what Last-Event-ID holds. */
  id: z.int(),
  run: z.string(),
  /** 1, 2, 3, … within the run. */
  seq: z.int(),
  event: runEvent,
});

export const fleetStatus = z.object({
  version: z.literal(1),
  at,
  repositories: z.array(repositoryStatus),
  hosts: z.array(hostStatus),
  /** Newest first. */
  runs: z.array(runStatus),
  lastEvent: z.int(),
});

export const eventPage = z.object({ events: z.array(storedEvent), more: z.boolean() });

/** POST /api/v1/runs; without a commit the branch's head is run. */
export const runRequest = z.strictObject({
  repository: z.string(),
  commit: z.optional(z.string().check(z.regex(/^[0-9a-f]{40}([0-9a-f]{24})?$/, 'not a commit id'))),
});

export const runAnswer = z.object({
  decision: z.enum(['start', 'coalesce', 'look', 'ignore']),
  reason: z.string(),
  run: z.optional(z.string()),
});

export type HostStatus = z.infer<typeof hostStatus>;
export type RunState = z.infer<typeof runState>;
export type RunStatus = z.infer<typeof runStatus>;
export type RepositoryStatus = z.infer<typeof repositoryStatus>;
export type StoredEvent = z.infer<typeof storedEvent>;
export type FleetStatus = z.infer<typeof fleetStatus>;
export type EventPage = z.infer<typeof eventPage>;
export type RunAnswer = z.infer<typeof runAnswer>;

/** One message of GET /events: its SSE event name, and the data. Only `event` messages carry an SSE id. */
export type LiveMessage =
  | { readonly name: 'snapshot'; readonly data: FleetStatus }
  | { readonly name: 'repository'; readonly data: RepositoryStatus }
  | { readonly name: 'host'; readonly data: HostStatus }
  | { readonly name: 'run'; readonly data: RunStatus }
  | { readonly name: 'event'; readonly data: StoredEvent };
