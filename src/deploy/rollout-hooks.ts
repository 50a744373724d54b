// Hooks of a whole rollout on the machine that deploys: before the first host is touched, and after the last has ended.
import type { HookResult, Hooks } from '../api/deploy-hooks.ts';
import { SlipwayError } from '../util/errors.ts';
import { describeHook, runControllerHooks } from './controller-hooks.ts';
import { deployError, type DeployOutcome } from './deploy-outcome.ts';
import { hooksOn, isWanted } from './hook-plan.ts';

export interface RolloutHooks {
  readonly hooks: Hooks;
  readonly hosts: readonly string[];
  readonly onLine: (line: string) => void;
  readonly signal: AbortSignal;
}

export interface HookedRollout {
  readonly outcomes: readonly DeployOutcome[];
  readonly failedHooks: readonly HookResult[];
}

/** A before-hook that fails stops the rollout (`deploy_refused`); one that fails after it is told of. */
export async function withRolloutHooks(
  { hooks, hosts, onLine, signal }: RolloutHooks,
  work: () => Promise<DeployOutcome[]>,
): Promise<HookedRollout> {
  const here = hooksOn('controller', hooks);
  const facts = { SLIPWAY_HOSTS: hosts.join(' ') };
  const [stopped] = await runControllerHooks(here.before, { when: 'before', facts, onLine, signal });
  const after = async (outcomes: readonly DeployOutcome[], good: boolean): Promise<HookResult[]> => {
    const due = here.after.filter((hook) => isWanted(hook, good ? 'committed' : 'failed'));
    const told = { ...facts, ...rolloutFacts(outcomes, good) };
    return await runControllerHooks(due, { when: 'after', facts: told, onLine });
  };
  if (stopped !== undefined) {
    await after([], false);
    throw new SlipwayError(
      'deploy_refused',
      `Nothing was begun. ${describeHook(stopped, 'of the rollout')}`,
      {
        next: 'Its output is above; to go on without hooks: --no-hooks',
        facts: { hook: stopped.name },
      },
    );
  }
  try {
    const outcomes = await work();
    const good = outcomes.every((outcome) => deployError(outcome) === undefined);
    return { outcomes, failedHooks: await after(outcomes, good) };
  } catch (error) {
    await after([], false);
    throw error;
  }
}

function rolloutFacts(outcomes: readonly DeployOutcome[], good: boolean): Record<string, string> {
  const named = (keep: (outcome: DeployOutcome) => boolean): string =>
    [...new Set(outcomes.filter(keep).map(({ host }) => host))].join(' ');
  return {
    SLIPWAY_OK: good ? 'yes' : 'no',
    SLIPWAY_COMMITTED: named(({ kind }) => kind === 'committed' || kind === 'degraded'),
    SLIPWAY_FAILED: named((outcome) => deployError(outcome) !== undefined),
  };
}
