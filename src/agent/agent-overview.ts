// Everything that `slipway agent status` shows, looked up afresh: it does not ask the running agent, so it also tells
// the truth about one that hangs or is gone.
import type { AgentReport } from '../api/agent-report.ts';
import { findRunningAgent } from './agent-memory.ts';
import { emptyAgentState, findAgentState, type AgentState } from './agent-state.ts';
import { agentStatus, buildReport } from './build-report.ts';
import { findSuspension, type Suspension } from './control-files.ts';
import { readHostFacts, systemHealthy } from './host-facts.ts';
import type { SyncReason } from './sync-status.ts';

export interface AgentOverview {
  /** Process id of the running agent. */
  readonly pid: number | undefined;
  readonly report: AgentReport;
  readonly reasons: readonly SyncReason[];
  readonly suspension: Suspension | undefined;
  readonly state: AgentState;
}

export async function readAgentOverview(hostName: string, stateDir: string): Promise<AgentOverview> {
  const now = new Date();
  const [state, pid, suspension, host, healthy] = await Promise.all([
    findAgentState(stateDir),
    findRunningAgent(stateDir),
    findSuspension(stateDir, now),
    readHostFacts(),
    systemHealthy(),
  ]);
  const facts = {
    hostName,
    host,
    state: state ?? emptyAgentState(now),
    suspension,
    systemHealthy: healthy,
    now,
  };
  return {
    pid,
    report: buildReport(facts),
    reasons: agentStatus(facts).reasons,
    suspension,
    state: facts.state,
  };
}
