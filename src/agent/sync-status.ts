// The three axes of a host: sync (does it run what the release wants?), health, and what the agent is doing.
// A pure function of facts looked up on each poll, never of remembered events: a missed event cannot falsify it.
import type { AgentOperation, AgentReport } from '../api/agent-report.ts';
import type { HostRelease } from './agent-state.ts';
import type { HostFacts } from './host-facts.ts';

export interface SyncFacts {
  readonly host: HostFacts;
  /** What the newest acceptable release wants of this host. */
  readonly desired: HostRelease | undefined;
  readonly applied: HostRelease | undefined;
  readonly suspended: boolean;
  readonly operation: AgentOperation;
  /** Whether the desired toplevel is quarantined. */
  readonly quarantined: boolean;
  /** Whether the last poll found only a release that this host refuses. */
  readonly refused: boolean;
  /** Whether systemd finds no failed unit; undefined when unknown. */
  readonly systemHealthy: boolean | undefined;
}

export type SyncReason =
  | 'new-release'
  | 'local-test'
  | 'local-switch'
  | 'boot-default-differs'
  | 'quarantined'
  | 'release-refused'
  | 'reboot-required';

export interface SyncStatus {
  readonly sync: AgentReport['sync'];
  readonly health: AgentReport['health'];
  readonly reasons: readonly SyncReason[];
}

const BUSY: ReadonlySet<AgentOperation> = new Set([
  'substituting',
  'building',
  'activating',
  'rebooting',
  'trial',
  'committing',
  'rolling-back',
]);

export function syncStatus(facts: SyncFacts): SyncStatus {
  const busy = BUSY.has(facts.operation);
  const drift = [...releaseDrift(facts), ...(busy ? [] : localDrift(facts))];
  const reasons: SyncReason[] = facts.host.rebootRequired ? [...drift, 'reboot-required'] : drift;
  return { sync: syncAxis(facts, drift), health: healthAxis(facts, busy), reasons };
}

/** What the release wants and this host has not. */
function releaseDrift(facts: SyncFacts): SyncReason[] {
  const wanted = facts.desired?.toplevel;
  const { current, profile } = facts.host;
  const runs = wanted === current && wanted === profile;
  const isNew = wanted !== undefined && wanted !== facts.applied?.toplevel && !runs;
  return kept([
    [isNew, 'new-release'],
    [facts.quarantined, 'quarantined'],
    [facts.refused, 'release-refused'],
  ]);
}

/** What somebody did on this host by hand; while a trial runs, the agent itself is that somebody. */
function localDrift(facts: SyncFacts): SyncReason[] {
  const { current, profile, bootDefault } = facts.host;
  const ours = facts.applied?.toplevel;
  return kept([
    [current !== profile && current !== ours, 'local-test'],
    [ours !== undefined && profile !== ours, 'local-switch'],
    [bootDefault !== undefined && bootDefault !== profile, 'boot-default-differs'],
  ]);
}

function kept(table: readonly (readonly [boolean, SyncReason])[]): SyncReason[] {
  return table.filter(([holds]) => holds).map(([, reason]) => reason);
}

function syncAxis(facts: SyncFacts, drift: readonly SyncReason[]): SyncStatus['sync'] {
  if (facts.host.current === undefined || facts.host.profile === undefined) return 'unknown';
  if (drift.length > 0) return 'out-of-sync';
  return facts.desired === undefined && facts.applied === undefined ? 'unknown' : 'synced';
}

function healthAxis(facts: SyncFacts, busy: boolean): SyncStatus['health'] {
  if (busy) return 'progressing';
  if (facts.systemHealthy === false) return 'degraded';
  if (facts.suspended) return 'suspended';
  return facts.systemHealthy === undefined ? 'unknown' : 'healthy';
}
