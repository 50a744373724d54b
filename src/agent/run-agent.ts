// The agent's life: take the state folder, resume what was interrupted, then step after step until told to stop.
// A stop never touches a running trial: that lives in units of its own, and the next agent goes on with it.
import type { AgentConfig } from '../api/agent-config.ts';
import type { AgentReport } from '../api/agent-report.ts';
import { resumeTrials } from '../deploy/trial.ts';
import type { Host } from '../effects/host.ts';
import { asSlipwayError, messageOf } from '../util/errors.ts';
import type { AgentContext } from './agent-context.ts';
import { AgentMemory } from './agent-memory.ts';
import { buildReport } from './build-report.ts';
import { findSuspension, watchAgentRequests } from './control-files.ts';
import { ControllerLink } from './controller-link.ts';
import { openReleaseMirror } from './fetch-release.ts';
import { readHostFacts, systemHealthy } from './host-facts.ts';
import type { AgentLog } from './journal-log.ts';
import { PollSchedule } from './poll-schedule.ts';
import { reconcileOnce } from './reconcile.ts';
import { openServiceManager, type ServiceManager } from './service-manager.ts';
import { Wakeup } from './wakeup.ts';

export interface RunAgentOptions {
  readonly config: AgentConfig;
  readonly host: Host;
  readonly log: AgentLog;
  readonly signal: AbortSignal;
  /** End after one step. */
  readonly once: boolean;
}

/** Pause after a step that failed for a reason of the agent's own (a full disk, a missing program), in ms. */
const PAUSE_AFTER_FAILURE_MS = 10_000;

export async function runAgent(options: RunAgentOptions): Promise<void> {
  const { config, log, signal } = options;
  await using memory = await AgentMemory.open(config.stateDir);
  const progress = { since: performance.now() };
  using service = openServiceManager({
    env: process.env,
    isAlive: () => performance.now() - progress.since < longestStepMs(config),
    onError: (message) => log.warn(message),
  });
  const agent = await openContext(options, memory, service);
  // Said first: a boot on trial counts as finished, and so as proven, only when all of its units are up.
  service.ready();
  await resumeInterrupted(agent);
  const wakeup = new Wakeup();
  using _watch = await watchAgentRequests(config.stateDir, () => wakeup.wake());
  log.info(`agent of ${config.host} started, following ${config.remotes.map((one) => one.url).join(', ')}`);
  while (!signal.aborted) {
    progress.since = performance.now();
    const pause = await step(agent, signal);
    agent.link.reportIfDue();
    if (options.once) break;
    progress.since = performance.now();
    await wakeup.wait(Math.min(pause, agent.link.dueInMs ?? pause), signal);
  }
  await agent.link.settle();
  log.info('agent stopped');
}

/** Longer than a step can take when everything in it takes as long as it may: what takes longer hangs. */
function longestStepMs({ timeouts, remotes }: AgentConfig): number {
  const { fetch, ...rest } = timeouts;
  const seconds = Object.values(rest).reduce((sum, one) => sum + one, fetch * remotes.length);
  return seconds * 1000 * 2;
}

/**
 * What a reboot or a crash cut off goes on, or back. Not waited for: it may be the boot trial that waits for this agent's
 * word; a new trial waits for its lock. A deploy that goes on is left alone.
 */
async function resumeInterrupted(agent: AgentContext): Promise<void> {
  try {
    await resumeTrials(agent.host);
  } catch (error) {
    agent.log.error(`interrupted deploys could not be resumed: ${messageOf(error)}`);
  }
}

async function openContext(
  options: RunAgentOptions,
  memory: AgentMemory,
  service: ServiceManager,
): Promise<AgentContext> {
  const { config, host, log, signal } = options;
  const makeReport = async (): Promise<AgentReport> => await reportNow(config, memory, signal);
  return {
    config,
    memory,
    mirror: await openReleaseMirror(config.stateDir),
    host,
    log,
    link: new ControllerLink({ controller: config.controller, memory, makeReport, signal }),
    service,
    schedule: new PollSchedule(config.remotes.map((remote) => remote.poll)),
    lastRemotes: [],
  };
}

async function reportNow(
  config: AgentConfig,
  memory: AgentMemory,
  signal: AbortSignal,
): Promise<AgentReport> {
  const now = new Date();
  const [host, suspension, healthy] = await Promise.all([
    readHostFacts(),
    findSuspension(config.stateDir, now),
    systemHealthy(signal),
  ]);
  return buildReport({
    hostName: config.host,
    host,
    state: memory.state,
    suspension,
    systemHealthy: healthy,
    now,
  });
}

/** One step; answers how long to pause. What fails here is told and tried again, for as long as the agent lives. */
async function step(agent: AgentContext, signal: AbortSignal): Promise<number> {
  try {
    await reconcileOnce(agent, signal);
    return agent.schedule.pauseMs();
  } catch (thrown) {
    if (signal.aborted) return 0;
    const error = asSlipwayError(thrown);
    agent.log.error(`${error.message}${error.next === undefined ? '' : ` ${error.next}`}`);
    return PAUSE_AFTER_FAILURE_MS;
  }
}
