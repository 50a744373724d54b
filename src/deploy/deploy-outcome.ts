// How a deploy to one host ended, and what that means for exit codes. The host's state file is the only source: what a
// client reports is what the host has on disk.
import type { HookResult } from '../api/deploy-hooks.ts';
import type { DeployState } from '../api/deploy-state.ts';
import type { HostPhase } from '../api/run-events.ts';
import { type ErrorCode, SlipwayError } from '../util/errors.ts';
import { nameHooks } from './name-hooks.ts';

export type DeployOutcome = HostEnd & {
  /** Hooks that failed after the end; it stands all the same. */
  readonly failedHooks?: readonly HookResult[];
};

type HostEnd =
  | { readonly kind: 'unchanged'; readonly host: string; readonly toplevel: string }
  | { readonly kind: 'committed'; readonly host: string; readonly state: DeployState }
  /** Permanent, though checks that failed before still fail. */
  | { readonly kind: 'degraded'; readonly host: string; readonly state: DeployState }
  /** Runs until the next boot: asked for (`test`), or it failed and was not to be rolled back. */
  | { readonly kind: 'kept'; readonly host: string; readonly state: DeployState }
  | {
      readonly kind: 'rolled-back';
      readonly host: string;
      readonly healthy: boolean;
      readonly state: DeployState;
    }
  | { readonly kind: 'rollback-failed'; readonly host: string; readonly state: DeployState }
  | {
      readonly kind: 'refused';
      readonly host: string;
      readonly reason: string;
      readonly detail: string;
    }
  /** Ended before the host took charge, for a reason on our side or on the way (a copy that failed). */
  | { readonly kind: 'failed'; readonly host: string; readonly error: SlipwayError }
  /** Not reached, and that is put up with. */
  | { readonly kind: 'skipped'; readonly host: string; readonly error: SlipwayError }
  /** Was committed, then went back because other hosts failed. */
  | { readonly kind: 'taken-back'; readonly host: string; readonly state: DeployState }
  /** Not begun, because these hosts failed before. */
  | { readonly kind: 'held-back'; readonly host: string; readonly failed: readonly string[] }
  /** Not reached, or lost: then `id` names the deploy, and the host decides by itself how it ends. */
  | {
      readonly kind: 'unreachable';
      readonly host: string;
      readonly id: string;
      readonly error: SlipwayError;
    };

/** The outcome that a final state means. */
export function outcomeOf(host: string, state: DeployState): DeployOutcome {
  switch (state.phase) {
    case 'COMMITTED':
      return { kind: state.healthy === 'no' ? 'degraded' : 'committed', host, state };
    case 'KEPT':
      return { kind: 'kept', host, state };
    case 'ROLLED_BACK':
      return { kind: 'rolled-back', host, healthy: state.healthy !== 'no', state };
    case 'ROLLBACK_FAILED':
      return { kind: 'rollback-failed', host, state };
    case 'REFUSED':
      return { kind: 'refused', host, reason: state.reason, detail: state.detail };
    default:
      throw new SlipwayError('internal', `${host} stopped in ${state.phase}, which is no end.`);
  }
}

/** The error that a command or a run reports for this outcome; undefined when all is well. */
export function deployError(outcome: DeployOutcome): SlipwayError | undefined {
  const { host } = outcome;
  switch (outcome.kind) {
    case 'degraded':
      return failure(
        'deploy_degraded',
        host,
        `committed, but not healthy. ${outcome.state.detail}`,
        outcome.state,
      );
    case 'kept':
      return kept(host, outcome.state);
    case 'rolled-back':
      return rolledBack(outcome);
    case 'rollback-failed':
      return failure(
        'deploy_rollback_failed',
        host,
        `could not be rolled back. ${outcome.state.detail}`,
        outcome.state,
      );
    case 'refused':
      return new SlipwayError(
        'deploy_refused',
        `${host} refused the deploy (${outcome.reason}): ${outcome.detail}`,
        {
          next: nextAfterRefusal(outcome.reason, host),
          facts: { host, reason: outcome.reason },
        },
      );
    case 'failed':
    case 'unreachable':
      return outcome.error;
    case 'taken-back':
    case 'held-back':
      return byOthers(outcome);
    default:
      return undefined; // unchanged, committed, skipped
  }
}

/** Hooks that failed after the deploy: something to look at, no failure of the deploy. */
export function hookError({ host, failedHooks = [] }: DeployOutcome): SlipwayError | undefined {
  if (failedHooks.length === 0) return undefined;
  return new SlipwayError(
    'hook_failed',
    `After the deploy of ${host} these hooks failed: ${nameHooks(failedHooks)}. How the deploy ended stands.`,
    {
      next: 'Their output is above, and for hooks on the host in its activate.log.',
      facts: { host, hooks: failedHooks },
    },
  );
}

/** What was only tested is well when it is healthy; what failed and was left running never is. */
function kept(host: string, state: DeployState): SlipwayError | undefined {
  if (state.reason === 'test' && state.healthy !== 'no') return undefined;
  const what = `runs a system that failed (${state.reason}); its boot default is still the old one. ${state.detail}`;
  return failure('deploy_degraded', host, what, state);
}

function rolledBack(outcome: Extract<DeployOutcome, { kind: 'rolled-back' }>): SlipwayError {
  const { host, healthy, state } = outcome;
  const code = healthy ? 'deploy_rolled_back' : 'deploy_rolled_back_unhealthy';
  const tail = healthy ? '' : ' The old system runs again but does not pass its checks.';
  return failure(code, host, `rolled back (${state.reason}). ${state.detail}${tail}`, state);
}

/** What a host did not do, or undid, because of other hosts. */
function byOthers(outcome: Extract<DeployOutcome, { kind: 'taken-back' | 'held-back' }>): SlipwayError {
  const { host } = outcome;
  if (outcome.kind === 'taken-back')
    return new SlipwayError(
      'deploy_rolled_back',
      `${host} went back to ${outcome.state.toplevel}, because others failed.`,
      { next: 'Look at the hosts that failed.', facts: { host, ...outcome.state } },
    );
  const { failed } = outcome;
  return new SlipwayError('deferred', `${host} was held back: ${failed.join(', ')} failed.`, {
    next: 'Nothing was changed on it. To go on whatever fails: --on-failure continue',
    facts: { host, failed },
  });
}

function failure(code: ErrorCode, host: string, what: string, state: DeployState): SlipwayError {
  const log = `/var/lib/slipway/deploy/${state.id}/activate.log`;
  return new SlipwayError(code, `${host} ${what}`.trim(), {
    next:
      code === 'deploy_rollback_failed'
        ? `Reboot ${host}: its boot default is still the old system. What happened: ${log}`
        : `Read ${log} on ${host}; it ran: journalctl -u slipway-activate-${state.id}`,
    facts: { host, ...state },
  });
}

function nextAfterRefusal(reason: string, host: string): string {
  switch (reason) {
    case 'quarantined':
      return 'Deploy a system that differs, or try this one again with --force.';
    case 'lock-held':
      return `Run it again when the other one has ended: slipway status ${host}`;
    case 'wrong-host':
      return `Check slipway.hosts.${host}.targetHost; if the host is to be renamed, use --force.`;
    case 'reboot-required':
    case 'switch-inhibited':
      return `Allow the reboot: slipway deploy ${host} --reboot when-needed, or slipway.hosts.${host}.reboot = "when-needed".`;
    case 'hook-failed':
      return `Nothing was changed. Its output is in the log; to go on without hooks: --no-hooks`;
    case 'no-boot-protection':
    case 'no-boot-fallback':
    case 'no-boot-watch':
      return `Without protection: --reboot later switches live and leaves the kernel to the next boot; --boot only sets the boot default.`;
    case 'not-permanent':
      return `Make what runs there permanent, or reboot ${host}; then deploy again.`;
    case 'secrets-unreadable':
      return 'Re-key the secrets for this host: slipway secrets rekey';
    default:
      return 'Nothing was changed on the host.';
  }
}

const HOST_PHASES = {
  PREPARED: 'preparing',
  ARMED: 'preparing',
  ACTIVATING: 'activating',
  STAGING: 'preparing',
  STAGED: 'preparing',
  REBOOTING: 'rebooting',
  BOOT_TRIAL: 'trial',
  TRIAL: 'trial',
  AWAIT_CONFIRM: 'confirming',
  COMMITTING: 'committing',
  COMMITTED: 'committed',
  KEPT: 'trial',
  ROLLING_BACK: 'rolling-back',
  ROLLED_BACK: 'rolled-back',
  ROLLBACK_FAILED: 'failed',
  REFUSED: 'refused',
} as const satisfies Record<DeployState['phase'], HostPhase>;

export function hostPhaseOf(state: DeployState): HostPhase {
  if (state.phase === 'KEPT' && state.reason !== 'test') return 'failed';
  return state.reason === 'quarantined' ? 'quarantined' : HOST_PHASES[state.phase];
}
