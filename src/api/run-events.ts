// What a pipeline run tells while it goes: one JSON object a line from `slipway ci run --json`, rows of the
// server's event table, and the data of its SSE stream. Readers ignore kinds and fields that they do not know.
import * as z from 'zod/mini';

export const STAGES = ['evaluate', 'rekey', 'build', 'test', 'cache', 'publish', 'deploy'] as const;
export const stage = z.enum(STAGES);

export const hostPhase = z.enum([
  'unchanged',
  'evaluating',
  'evaluated',
  'building',
  'built',
  'deferred',
  'caching',
  'cached',
  'preparing',
  'copying',
  'activating',
  'rebooting',
  'trial',
  'confirming',
  'committing',
  'committed',
  'rolling-back',
  'rolled-back',
  'refused',
  'quarantined',
  'manual',
  'awaiting-agent',
  'failed',
]);

const at = z.iso.datetime();
const ms = z.optional(z.number());

export const runEvent = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('run-started'),
    at,
    run: z.string(),
    source: z.string(),
    branch: z.string(),
    reason: z.string(),
  }),
  z.object({ kind: z.literal('stage-started'), at, stage }),
  z.object({
    kind: z.literal('stage-finished'),
    at,
    stage,
    /** `partly`: it went on without the hosts that failed in it. */
    outcome: z.enum(['ok', 'partly', 'failed', 'skipped']),
    ms,
    note: z.optional(z.string()),
  }),
  z.object({
    kind: z.literal('host'),
    at,
    host: z.string(),
    phase: hostPhase,
    toplevel: z.optional(z.string()),
    note: z.optional(z.string()),
    ms,
  }),
  z.object({ kind: z.literal('log'), at, stage, host: z.optional(z.string()), line: z.string() }),
  z.object({
    kind: z.literal('problem'),
    at,
    code: z.string(),
    message: z.string(),
    next: z.optional(z.string()),
    stage: z.optional(stage),
    host: z.optional(z.string()),
  }),
  /** Time spent outside Slipway itself (nix, ssh, the health window), for the breakdown at the end of a run. */
  z.object({ kind: z.literal('span'), at, name: z.string(), ms: z.number(), outside: z.boolean() }),
  z.object({
    kind: z.literal('run-finished'),
    at,
    outcome: z.enum(['done', 'nothing-to-do', 'failed']),
    release: z.optional(z.string()),
    serial: z.optional(z.int()),
    note: z.string(),
    ms: z.number(),
  }),
]);

export type Stage = z.infer<typeof stage>;
export type HostPhase = z.infer<typeof hostPhase>;
export type RunEvent = z.infer<typeof runEvent>;

type WithoutTime<E> = E extends RunEvent ? Omit<E, 'at'> : never;
/** An event as its source states it; the clock is added where it is emitted. */
export type RunEventBody = WithoutTime<RunEvent>;

/** Where a run's events go. Never throws, never blocks. */
export type EmitRunEvent = (event: RunEventBody) => void;
