// A push deploy copies from this machine's store. What an earlier run built may be gone here (a fresh CI runner, a
// garbage collection): then it comes from the caches.
import type { ReleaseManifest } from '../api/manifest.ts';
import { findInvalidPaths, type Nix, realisePaths } from '../effects/nix-cli.ts';
import type { DeployTarget, RolloutPlan } from './plan-waves.ts';
import type { RunRecorder } from './run-recorder.ts';

export interface FetchContext {
  readonly nix: Nix;
  readonly recorder: RunRecorder;
  readonly signal: AbortSignal;
  /** The release before: hosts that it put on the same toplevel may be left out when that is not to be had. */
  readonly before: ReleaseManifest | undefined;
}

/** The plan with every toplevel at hand; hosts that did not change and whose toplevel is nowhere are left out. */
export async function fetchToplevels(plan: RolloutPlan, context: FetchContext): Promise<RolloutPlan> {
  const targets = plan.waves.flatMap((wave) => wave.targets);
  const absent = await findAbsent(targets, context);
  const lost = absent.filter(({ host, toplevel }) => context.before?.hosts[host]?.toplevel === toplevel);
  for (const { host, toplevel } of lost) {
    const note = 'not looked at: its system is neither in this store nor in a cache';
    context.recorder.emit({ kind: 'host', host, phase: 'unchanged', toplevel, note });
  }
  const waves = plan.waves.map(({ wave, targets }) => ({
    wave,
    targets: targets.filter((target) => !lost.includes(target)),
  }));
  return { ...plan, waves };
}

async function findAbsent(targets: readonly DeployTarget[], context: FetchContext): Promise<DeployTarget[]> {
  if (targets.length === 0) return [];
  const { nix, signal, recorder } = context;
  return await recorder.outside('nix-build', async () => {
    const paths = targets.map((target) => target.toplevel);
    const invalid = await findInvalidPaths(nix, paths, signal);
    if (invalid.size === 0) return [];
    await realisePaths(nix, [...invalid], { signal, onLine: () => undefined });
    const still = await findInvalidPaths(nix, [...invalid], signal);
    return targets.filter((target) => still.has(target.toplevel));
  });
}
