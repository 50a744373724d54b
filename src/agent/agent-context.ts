// What every part of the running agent works with, put together once by run-agent.ts.
import type { AgentConfig } from '../api/agent-config.ts';
import type { Host } from '../effects/host.ts';
import type { AgentMemory } from './agent-memory.ts';
import type { ControllerLink } from './controller-link.ts';
import type { AgentLog } from './journal-log.ts';
import type { PollSchedule } from './poll-schedule.ts';
import type { ServiceManager } from './service-manager.ts';
import type { RemoteFacts } from './release-facts.ts';

export interface AgentContext {
  readonly config: AgentConfig;
  readonly memory: AgentMemory;
  /** Bare mirror of the remotes. */
  readonly mirror: string;
  /** This host, as the runner's driver sees it. */
  readonly host: Host;
  readonly log: AgentLog;
  readonly link: ControllerLink;
  readonly schedule: PollSchedule;
  readonly service: ServiceManager;
  /** What the remotes said last, in the order of the configuration. */
  lastRemotes: readonly RemoteFacts[];
}
