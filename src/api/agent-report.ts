// POST /api/agent/v1/report: what a host's agent tells the control plane, and what it hears back.
// The answer can delay the agent or wake it; it never names a store path: the controller cannot inject a release (G8).
import * as z from 'zod/mini';
import { hookResult } from './deploy-hooks.ts';
import { hostName } from './fleet-config.ts';

export const agentOperation = z.enum([
  'idle',
  'fetching',
  'substituting',
  'building',
  'activating',
  'rebooting',
  'trial',
  'committing',
  'rolling-back',
  'suspended',
  'waiting',
]);

/** How the last trial on this host ended. */
export const trialResult = z.object({
  toplevel: z.string(),
  phase: z.string(),
  reason: z.string(),
  detail: z.string(),
  at: z.iso.datetime(),
  /** After-hooks that failed; absent: none. */
  failedHooks: z.optional(z.array(hookResult)),
});

export const agentReport = z.object({
  version: z.literal(1),
  host: hostName,
  bootId: z.string(),
  agentVersion: z.string(),
  at: z.iso.datetime(),
  /** /run/current-system, /run/booted-system, the profile's target, and what the boot loader would start. */
  current: z.string(),
  booted: z.string(),
  profile: z.string(),
  bootDefault: z.string(),
  generation: z.int(),
  release: z.optional(z.string()),
  serial: z.optional(z.int()),
  operation: agentOperation,
  sync: z.enum(['synced', 'out-of-sync', 'unknown']),
  health: z.enum(['healthy', 'progressing', 'degraded', 'suspended', 'unknown']),
  note: z.string(),
  lastResult: z.optional(trialResult),
  quarantined: z.array(z.object({ toplevel: z.string(), reason: z.string(), at: z.iso.datetime() })),
});

export const agentAnswer = z.object({
  version: z.literal(1),
  /** A reason to wait before taking the newest release; absent: go on. */
  hold: z.optional(z.string()),
  /** Seconds until the next report is expected. */
  nextPollSeconds: z.int(),
});

export type AgentOperation = z.infer<typeof agentOperation>;
export type AgentReport = z.infer<typeof agentReport>;
export type AgentAnswer = z.infer<typeof agentAnswer>;
