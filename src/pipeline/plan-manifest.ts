// The manifest of a release, decided from what became of each host.
import type { FleetConfig, HostConfig } from '../api/fleet-config.ts';
import type { ManifestHost, ReleaseManifest } from '../api/manifest.ts';
import { hooksOn } from '../deploy/hook-plan.ts';
import type { Discovered } from './run-context.ts';
import type { HostPlan } from './plan-release.ts';

export interface ManifestFacts {
  readonly config: FleetConfig;
  readonly hosts: ReadonlyMap<string, HostConfig>;
  /** Plans after the build: a host whose build failed is `failed` here. */
  readonly plans: readonly HostPlan[];
  readonly previous: ReleaseManifest | undefined;
  readonly serial: number;
  readonly release: { readonly commit: string; readonly tree: string; readonly source: string };
  readonly caches: ReleaseManifest['caches'];
  readonly at: Date;
}

/** One more than any release that this one follows: a testing release also follows the one that it goes on top of. */
export function nextSerial(found: Pick<Discovered, 'previous' | 'base'>): number {
  return Math.max(found.previous?.manifest.serial ?? 0, found.base?.manifest.serial ?? 0) + 1;
}

/** Every host that the release can name; one that failed keeps its last toplevel, or is left out when it has none. */
export function planManifest(facts: ManifestFacts): ReleaseManifest {
  const { previous } = facts;
  const hosts = facts.plans.flatMap((plan) => {
    const entry = planEntry(plan, facts.hosts.get(plan.host), previous?.hosts[plan.host]);
    return entry === undefined ? [] : [[plan.host, entry] as const];
  });
  return {
    version: 1,
    serial: facts.serial,
    branch: facts.config.release.branch,
    ...facts.release,
    ...(previous && { previous: previous.commit }),
    createdAt: facts.at.toISOString(),
    hosts: Object.fromEntries(hosts),
    caches: facts.caches,
  };
}

function planEntry(
  plan: HostPlan,
  config: HostConfig | undefined,
  before: ManifestHost | undefined,
): ManifestHost | undefined {
  if (config === undefined) return undefined;
  const settings = settingsOf(config);
  if (plan.kind === 'failed') {
    if (before === undefined) return undefined;
    return { ...settings, system: before.system, toplevel: before.toplevel, state: 'kept' };
  }
  const state = plan.kind === 'build' ? 'built' : plan.kind === 'unchanged' ? plan.state : 'deferred';
  return { ...settings, system: plan.facts.system, toplevel: plan.facts.outPath, state };
}

/** What a trial needs to know beside the system, so that a host that pulls evaluates nothing. */
function settingsOf({ mode, wave, health, reboot, hooks }: HostConfig) {
  const { before, after } = hooksOn('host', hooks);
  const some = before.length + after.length > 0;
  return { mode, wave, health, ...(reboot && { reboot }), ...(some && { hooks: { before, after } }) };
}

/** Whether the two manifests mean the same for every host (serial, commits and time aside). */
export function sameHosts(a: ReleaseManifest | undefined, b: ReleaseManifest): boolean {
  return a !== undefined && JSON.stringify(sorted(a.hosts)) === JSON.stringify(sorted(b.hosts));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)]));
}
