// What the agent says about its host, to the control plane and to `slipway agent status`: one value, from facts.
import type { AgentReport } from '../api/agent-report.ts';
import { nameHooks } from '../deploy/name-hooks.ts';
import type { AgentState, HostRelease } from './agent-state.ts';
import type { Suspension } from './control-files.ts';
import type { HostFacts } from './host-facts.ts';
import { syncStatus, type SyncStatus } from './sync-status.ts';

export interface ReportFacts {
  readonly hostName: string;
  readonly host: HostFacts;
  readonly state: AgentState;
  readonly suspension: Suspension | undefined;
  readonly systemHealthy: boolean | undefined;
  readonly now: Date;
}

export const AGENT_VERSION = '0.1.0';

export function agentStatus(facts: ReportFacts): SyncStatus {
  const { state } = facts;
  const desired = desiredRelease(state);
  return syncStatus({
    host: facts.host,
    desired,
    applied: state.applied,
    suspended: facts.suspension !== undefined,
    operation: state.operation.name,
    quarantined: state.quarantine.some((entry) => entry.toplevel === desired?.toplevel),
    refused: state.seen?.decision === 'refuse' && desired === undefined,
    systemHealthy: facts.systemHealthy,
  });
}

export function buildReport(facts: ReportFacts): AgentReport {
  const { host, state } = facts;
  const status = agentStatus(facts);
  const release = state.applied;
  return {
    version: 1,
    host: facts.hostName,
    bootId: host.bootId,
    agentVersion: AGENT_VERSION,
    at: facts.now.toISOString(),
    current: host.current ?? '',
    booted: host.booted ?? '',
    profile: host.profile ?? '',
    bootDefault: host.bootDefault ?? '',
    generation: host.generation,
    ...(release && { release: release.commit, serial: release.serial }),
    operation: operationOf(facts),
    sync: status.sync,
    health: status.health,
    note: noteOf(state, status),
    ...(state.lastResult && { lastResult: state.lastResult }),
    quarantined: state.quarantine.map(({ toplevel, reason, at }) => ({ toplevel, reason, at })),
  };
}

/** The release that the last poll found acceptable, whether or not it may be taken now. */
export function desiredRelease(state: AgentState): HostRelease | undefined {
  return state.seen?.release;
}

function operationOf(facts: ReportFacts): AgentReport['operation'] {
  const { name } = facts.state.operation;
  if (name !== 'idle') return name;
  if (facts.suspension !== undefined) return 'suspended';
  const waits = facts.state.seen?.decision === 'wait' && facts.state.seen.reason !== 'no-release';
  return waits ? 'waiting' : 'idle';
}

function noteOf(state: AgentState, status: SyncStatus): string {
  const reasons = status.reasons.join(', ');
  const { seen, lastResult } = state;
  const said = seen === undefined || seen.decision === 'current' ? '' : seen.detail;
  const failed = lastResult?.failedHooks ?? [];
  const hooks = failed.length === 0 ? '' : `hooks failed after the last deploy: ${nameHooks(failed)}`;
  return [reasons, said, hooks].filter((part) => part !== '').join(': ');
}
