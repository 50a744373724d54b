// The files of one deploy on its host: what host/activate.sh reads and writes, and what its drivers read.
// Folder /var/lib/slipway/deploy/<id>/: intent.json (written once by the driver), state.json (written by the runner
// only: temporary file, fsync, rename), checks (one health check a line), activate.log, rollback.log.
// Both JSON files are flat and hold one key a line, so that POSIX sh can read them with sed.
import * as z from 'zod/mini';
import { storePathText } from './manifest.ts';

export const deployPhase = z.enum([
  'PREPARED',
  'ARMED',
  'ACTIVATING',
  'TRIAL',
  'AWAIT_CONFIRM',
  'COMMITTING',
  'COMMITTED',
  'ROLLING_BACK',
  'ROLLED_BACK',
  'ROLLBACK_FAILED',
  'REFUSED',
]);

/** Phases after which nothing moves any more. */
export const FINAL_PHASES: readonly DeployPhase[] = [
  'COMMITTED',
  'ROLLED_BACK',
  'ROLLBACK_FAILED',
  'REFUSED',
];

export const deployId = z.string().check(z.regex(/^[0-9a-z]{26}$/, 'not a deploy id'));

const seconds = z.int().check(z.minimum(1), z.maximum(86_400));

export const deployIntent = z.strictObject({
  version: z.literal(1),
  id: deployId,
  host: z.string(),
  /** The toplevel to try. */
  toplevel: storePathText,
  /** Who asked: `push` waits for confirmation over a fresh connection, `pull` for the agent's probes. */
  origin: z.enum(['push', 'pull']),
  release: z.string(),
  /** Hex SHA-256 of the one-time confirmation token; empty when no confirmation is awaited. */
  tokenHash: z.string().check(z.regex(/^([0-9a-f]{64})?$/)),
  lockTimeout: seconds,
  activationTimeout: seconds,
  healthTimeout: seconds,
  healthStable: z.int(),
  confirmTimeout: seconds,
  commitTimeout: seconds,
  rollbackTimeout: seconds,
  createdAt: z.iso.datetime(),
});

export const deployState = z.object({
  version: z.literal(1),
  id: deployId,
  phase: deployPhase,
  /** Unix seconds at which this phase began, on the host's clock. */
  since: z.int(),
  toplevel: z.string(),
  /** What ran before the trial. */
  previous: z.string(),
  /** Why a trial was refused or rolled back: a word of the runner (`health-failed`, `confirm-timeout`, …). */
  reason: z.string(),
  /** One sentence for people. */
  detail: z.string(),
  /** Exit code of switch-to-configuration, -1 before it ran. */
  activationExit: z.int(),
  /** Generation number of the profile after the commit, 0 before. */
  generation: z.int(),
  /** Whether the checks hold on the system that now runs: `yes`, `no`, `unknown`. */
  healthy: z.enum(['yes', 'no', 'unknown']),
});

export type DeployPhase = z.infer<typeof deployPhase>;
export type DeployIntent = z.infer<typeof deployIntent>;
export type DeployState = z.infer<typeof deployState>;

export function isFinal(phase: DeployPhase): boolean {
  return FINAL_PHASES.includes(phase);
}
