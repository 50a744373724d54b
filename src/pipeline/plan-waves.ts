// In which order hosts are brought to a release, and which of them this run touches at all.
import type { HostConfig } from '../api/fleet-config.ts';
import type { ReleaseManifest } from '../api/manifest.ts';

export interface DeployTarget {
  readonly host: string;
  readonly config: HostConfig;
  readonly toplevel: string;
  /** The release commit. */
  readonly release: string;
  readonly serial: number;
}

export interface RolloutPlan {
  /** Push hosts, wave by wave in ascending order; hosts of a wave are independent of each other. */
  readonly waves: readonly { readonly wave: number; readonly targets: readonly DeployTarget[] }[];
  /** Hosts that take the release without this run, with what is said about them. */
  readonly others: readonly {
    readonly host: string;
    readonly phase: 'unchanged' | 'awaiting-agent' | 'manual' | 'deferred';
    readonly toplevel: string;
  }[];
}

/**
 * Push hosts whose toplevel is built are targets even when the release did not change them: one that an earlier run
 * could not reach converges. Hosts that were left behind (`kept`) stay where they are.
 */
export function planWaves(
  manifest: ReleaseManifest,
  hosts: ReadonlyMap<string, HostConfig>,
  before: ReleaseManifest | undefined,
): RolloutPlan {
  const targets: DeployTarget[] = [];
  const others: RolloutPlan['others'][number][] = [];
  for (const [host, entry] of Object.entries(manifest.hosts)) {
    const config = hosts.get(host);
    if (config === undefined || entry.state === 'kept') continue;
    const { toplevel } = entry;
    const changed = before?.hosts[host]?.toplevel !== toplevel;
    if (entry.mode === 'pull')
      others.push({ host, toplevel, phase: changed ? 'awaiting-agent' : 'unchanged' });
    else if (entry.mode === 'manual')
      others.push({ host, toplevel, phase: changed ? 'manual' : 'unchanged' });
    else if (entry.state === 'deferred') others.push({ host, toplevel, phase: 'deferred' });
    else targets.push({ host, config, toplevel, release: manifest.commit, serial: manifest.serial });
  }
  return { waves: groupByWave(targets), others };
}

function groupByWave(targets: readonly DeployTarget[]): RolloutPlan['waves'] {
  const waves = new Map<number, DeployTarget[]>();
  for (const target of targets)
    waves.set(target.config.wave, [...(waves.get(target.config.wave) ?? []), target]);
  return [...waves].toSorted(([a], [b]) => a - b).map(([wave, members]) => ({ wave, targets: members }));
}
