// Brings push-mode hosts to a published release, wave by wave. A host that fails never stops its wave's others, but
// holds back the waves after it: that is what waves are for.
import type { Hook, Hooks } from '../api/deploy-hooks.ts';
import type { EmitRunEvent } from '../api/run-events.ts';
import { deployError, type DeployOutcome, hookError } from '../deploy/deploy-outcome.ts';
import { deployToHost } from '../deploy/deploy-to-host.ts';
import { hooksOn } from '../deploy/hook-plan.ts';
import { openSshHost } from '../effects/ssh-host.ts';
import { sshTargetOf } from '../effects/ssh-target.ts';
import { mapBounded } from '../util/concurrency.ts';
import { asSlipwayError, type SlipwayError } from '../util/errors.ts';
import type { DeployTarget, RolloutPlan } from './plan-waves.ts';
import type { RunRecorder } from './run-recorder.ts';

/** Deploys one host and tells its phases; what it cannot tell by its outcome is thrown. */
export type Deployer = (
  target: DeployTarget,
  emit: EmitRunEvent,
  signal: AbortSignal,
) => Promise<DeployOutcome>;

export interface RolloutContext {
  readonly deployer: Deployer;
  readonly recorder: RunRecorder;
  readonly signal: AbortSignal;
  /** Hosts of a wave that are deployed at a time. */
  readonly jobs: number;
}

export interface RolloutResult {
  readonly committed: readonly string[];
  readonly failures: ReadonlyMap<string, SlipwayError>;
}

export async function deployHosts(plan: RolloutPlan, context: RolloutContext): Promise<RolloutResult> {
  const { recorder } = context;
  for (const { host, phase, toplevel } of plan.others) recorder.emit({ kind: 'host', host, phase, toplevel });
  const committed: string[] = [];
  const failures = new Map<string, SlipwayError>();
  for (const { targets } of plan.waves) {
    if (failures.size > 0) {
      holdBack(targets, [...failures.keys()], recorder);
      continue;
    }
    await mapBounded(targets, context.jobs, async (target) => {
      const result = await deployOne(target, context);
      if (result.error !== undefined) failures.set(target.host, result.error);
      else if (result.committed) committed.push(target.host);
    });
    context.signal.throwIfAborted();
  }
  return { committed, failures };
}

/** Hooks that a pipeline does not run: its machine holds keys, and a commit must not choose what runs there. */
export function hooksHere({ hooks }: { readonly hooks: Hooks }): readonly Hook[] {
  const { before, after } = hooksOn('controller', hooks);
  return [...before, ...after];
}

/** The deployer of a machine that reaches its hosts by ssh. */
export const sshDeployer: Deployer = async (target, emit, signal) => {
  const { toplevel, release, config } = target;
  const started = performance.now();
  await using host = await openSshHost(sshTargetOf(target.host, config), { signal });
  emit({ kind: 'span', name: `connect ${target.host}`, ms: performance.now() - started, outside: true });
  const hooks = hooksOn('host', config.hooks);
  for (const { name } of hooksHere(config))
    emit({
      kind: 'log',
      stage: 'deploy',
      host: target.host,
      line: `hook ${name} is for the controller: not run`,
    });
  const { health, reboot } = config;
  return await deployToHost(
    host,
    { toplevel, release, health, hooks, ...(reboot && { reboot }) },
    emit,
    signal,
  );
};

async function deployOne(
  target: DeployTarget,
  context: RolloutContext,
): Promise<{ readonly committed: boolean; readonly error?: SlipwayError }> {
  const { recorder, signal } = context;
  const { host, toplevel } = target;
  try {
    const outcome = await context.deployer(target, recorder.emit, signal);
    const warning = hookError(outcome);
    if (warning !== undefined) recorder.problem(warning, { stage: 'deploy', host });
    const error = deployError(outcome);
    if (error === undefined) return { committed: outcome.kind === 'committed' };
    recorder.problem(error, { stage: 'deploy', host });
    return { committed: false, error };
  } catch (thrown) {
    signal.throwIfAborted();
    const error = asSlipwayError(thrown);
    recorder.emit({ kind: 'host', host, phase: 'failed', toplevel, note: error.message });
    recorder.problem(error, { stage: 'deploy', host });
    return { committed: false, error };
  }
}

function holdBack(targets: readonly DeployTarget[], failed: readonly string[], recorder: RunRecorder): void {
  const note = `held back: ${failed.join(', ')} of an earlier wave failed`;
  for (const { host, toplevel } of targets)
    recorder.emit({ kind: 'host', host, phase: 'refused', toplevel, note });
}
