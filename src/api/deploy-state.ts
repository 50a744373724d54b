// The files of one deploy on its host: what host/activate.sh reads and writes, and what its drivers read.
// Folder /var/lib/slipway/deploy/<id>/: intent.json (written once by the driver), state.json (written by the runner
// only: temporary file, fsync, rename), checks (one health check a line), events.ndjson (every state there was),
// activate.log, rollback.log, baseline/ (what was broken before), hooks (one a line) and hooks.ndjson (their exits). Both JSON files are flat, hold one key a line and
// need no escapes, so that POSIX sh can read and write them.
import * as z from 'zod/mini';
import { storePathText } from './manifest.ts';

export const deployPhase = z.enum([
  'PREPARED',
  'ARMED',
  'ACTIVATING',
  'STAGING',
  'STAGED',
  'REBOOTING',
  'BOOT_TRIAL',
  'TRIAL',
  'AWAIT_CONFIRM',
  'COMMITTING',
  'COMMITTED',
  'KEPT',
  'ROLLING_BACK',
  'ROLLED_BACK',
  'ROLLBACK_FAILED',
  'REFUSED',
]);

/** Phases after which nothing moves any more. */
export const FINAL_PHASES: readonly DeployPhase[] = [
  'COMMITTED',
  'KEPT',
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
  /**
   * Hex SHA-256 of the one-time confirmation token. Empty: for `push` no confirmation is awaited; for `pull` the
   * agent's word is enough, it is root on the host anyway.
   */
  tokenHash: z.string().check(z.regex(/^([0-9a-f]{64})?$/)),
  /** A rollback's target: the commit goes back to this generation's number. 0: the commit makes a new one. */
  generation: z._default(z.int().check(z.minimum(0)), 0),
  /**
   * `trial` tries and commits; `test` tries and leaves it running without a commit (KEPT); `boot` commits without a
   * trial, for the next boot; `boot-trial` lets the boot loader start it once, and commits it there.
   */
  operation: z._default(z.enum(['trial', 'test', 'boot', 'boot-trial']), 'trial'),
  /** `no`: a system that fails its trial is left running, uncommitted (KEPT); a missing confirmation rolls back anyway. */
  autoRollback: z._default(z.enum(['yes', 'no']), 'yes'),
  /** A profile other than the system's: its link, or a name that the user's rules place. Empty: the system profile. */
  profile: z._default(z.string().check(z.regex(/^[A-Za-z0-9._/+@-]*$/)), ''),
  /** Whose profile it is and who runs its activation. */
  user: z._default(z.string().check(z.regex(/^[A-Za-z_][A-Za-z0-9_.-]*\$?$/)), 'root'),
  lockTimeout: seconds,
  activationTimeout: seconds,
  healthTimeout: seconds,
  healthStable: z.int(),
  confirmTimeout: seconds,
  commitTimeout: seconds,
  rollbackTimeout: seconds,
  /** What all hooks on the host may take together. */
  hookTimeout: z._default(z.int().check(z.minimum(0)), 0),
  /** How long a boot trial's reboot may take until the new system has settled. */
  bootTimeout: z._default(seconds, 600),
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
  /** Kernel, initrd, modules or kernel parameters differ from what was booted. */
  rebootRequired: z._default(z.boolean(), false),
});

export type DeployPhase = z.infer<typeof deployPhase>;
export type DeployIntent = z.infer<typeof deployIntent>;
export type DeployState = z.infer<typeof deployState>;

export function isFinal(phase: DeployPhase): boolean {
  return FINAL_PHASES.includes(phase);
}
