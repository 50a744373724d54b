// Which hooks run where, what they are told, and which of them failed. Pure.
import type { AfterHook, Hook, HookPlace, HookResult, Hooks } from '../api/deploy-hooks.ts';
import type { DeployState } from '../api/deploy-state.ts';
import type { DeployOutcome } from './deploy-outcome.ts';
import type { DeployRequest } from './deploy-request.ts';

export function hooksOn(place: HookPlace, hooks: Hooks): Hooks {
  const here = ({ on }: Hook): boolean => on === place;
  return { before: hooks.before.filter(here), after: hooks.after.filter(here) };
}

/** The host's own hooks, with those that the fleet has for each host around them. */
export function joinHooks(fleet: Hooks, own: Hooks): Hooks {
  const each = hooksOn('host', fleet);
  return { before: [...each.before, ...own.before], after: [...own.after, ...each.after] };
}

/** The file `hooks` of a deploy, one a line: `WHEN SECONDS ONLY NAME COMMAND`. host/lib/hooks.sh reads it. */
export function formatHooks(hooks: Hooks): string {
  const { before, after } = hooksOn('host', hooks);
  return [
    ...before.map((hook) => `before ${hook.timeout} always ${hook.name} ${hook.command}\n`),
    ...after.map((hook) => `after ${hook.timeout} ${hook.only} ${hook.name} ${hook.command}\n`),
  ].join('');
}

/** Seconds that the hooks on the host may take altogether. */
export function longestHooks(hooks: Hooks): number {
  const { before, after } = hooksOn('host', hooks);
  return [...before, ...after].reduce((sum, { timeout }) => sum + timeout + 10, 0);
}

/** How an outcome counts for an after-hook's `only`. */
export function isWanted({ only }: AfterHook, ended: 'committed' | 'failed'): boolean {
  return only === 'always' || only === ended;
}

export function endOf(outcome: DeployOutcome): 'committed' | 'failed' {
  return ['committed', 'degraded', 'kept', 'unchanged'].includes(outcome.kind) ? 'committed' : 'failed';
}

/** After-hooks on the host that failed, or that nothing is known of. Without a begun hook phase none was due. */
export function failedOnHost(
  hooks: Hooks,
  state: DeployState,
  results: readonly HookResult[],
): readonly HookResult[] {
  if (hooks.before.length + hooks.after.length === 0 || !wereDue(state)) return [];
  const ended = state.phase === 'COMMITTED' || state.phase === 'KEPT' ? 'committed' : 'failed';
  return hooksOn('host', hooks)
    .after.filter((hook) => isWanted(hook, ended))
    .map(
      ({ name }): HookResult =>
        results.find((result) => result.when === 'after' && result.name === name) ?? {
          name,
          when: 'after',
          exit: -1,
        },
    )
    .filter(({ exit }) => exit !== 0);
}

/** A deploy that was refused before its hooks began owes none; one that a hook refused does. */
function wereDue({ phase, reason }: DeployState): boolean {
  return phase !== 'REFUSED' || reason === 'hook-failed';
}

/** What a hook on the controller is told about a host; the runner tells hooks on the host the same and more. */
export function hookFacts(
  host: string,
  request: DeployRequest,
  outcome?: DeployOutcome,
): Record<string, string> {
  return {
    SLIPWAY_HOST: host,
    SLIPWAY_ORIGIN: 'push',
    SLIPWAY_OPERATION: request.operation ?? 'trial',
    SLIPWAY_RELEASE: request.release,
    SLIPWAY_OUT_PATH: request.toplevel,
    COMIN_GIT_SHA: request.release,
    COMIN_HOSTNAME: host,
    COMIN_STATUS: 'running',
    ...(outcome !== undefined && outcomeFacts(outcome)),
  };
}

function outcomeFacts(outcome: DeployOutcome): Record<string, string> {
  const failed = endOf(outcome) === 'failed';
  const { reason, detail } = whyOf(outcome);
  return {
    SLIPWAY_PHASE: outcome.kind.toUpperCase().replace('-', '_'),
    ...('state' in outcome && stateFacts(outcome.state)),
    SLIPWAY_REASON: reason,
    SLIPWAY_DETAIL: detail,
    COMIN_STATUS: failed ? 'failed' : 'done',
    COMIN_ERROR_MSG: failed ? detail : '',
  };
}

function stateFacts(state: DeployState): Record<string, string> {
  return {
    SLIPWAY_DEPLOY: state.id,
    SLIPWAY_PHASE: state.phase,
    SLIPWAY_PREVIOUS_PATH: state.previous,
    SLIPWAY_GENERATION: String(state.generation),
    SLIPWAY_HEALTHY: state.healthy,
    COMIN_GENERATION: state.id,
  };
}

function whyOf(outcome: DeployOutcome): { readonly reason: string; readonly detail: string } {
  if ('state' in outcome) return outcome.state;
  if ('error' in outcome) return { reason: outcome.error.code, detail: outcome.error.message };
  return outcome.kind === 'refused' ? outcome : { reason: '', detail: '' };
}
