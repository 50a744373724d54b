// A release on trial: the runner of src/deploy activates it, and this agent answers for what the runner cannot know:
// that the host still reaches its forge, its caches and its controller, over fresh connections. Everything that a
// restarted agent needs to go on is in the state file before the trial starts.
import type { AgentOperation } from '../api/agent-report.ts';
import type { HookResult } from '../api/deploy-hooks.ts';
import { isFinal, type DeployPhase, type DeployState } from '../api/deploy-state.ts';
import { healthConfig } from '../api/fleet-config.ts';
import { createDeployId } from '../deploy/deploy-id.ts';
import type { DeployRequest } from '../deploy/deploy-request.ts';
import { readHostFacts } from '../deploy/host-facts.ts';
import { nameHooks } from '../deploy/name-hooks.ts';
import { planSwitch } from '../deploy/plan-switch.ts';
import {
  confirmTrial,
  forgiveToplevel,
  listTrials,
  readQuarantine,
  rejectTrial,
  startTrial,
  watchTrial,
} from '../deploy/trial.ts';
import { planIntent } from '../deploy/trial-intent.ts';
import { sleep } from '../util/deadline.ts';
import { messageOf, SlipwayError } from '../util/errors.ts';
import type { AgentContext } from './agent-context.ts';
import type { TrialRecord } from './agent-state.ts';
import { afterTrial, type EndedTrial } from './after-trial.ts';
import type { Candidate } from './release-facts.ts';
import { isBlind, lostProbes, planProbes, type Probe } from './probe-plan.ts';
import { runProbes, type ProbeContext } from './probe.ts';
import { cachesOf } from './realise-toplevel.ts';

/** The runner waits this much longer than the agent probes, so that it is the agent who says what was lost. */
const CONFIRM_MARGIN_SECONDS = 15;
const PROBE_TIMEOUT_MS = 10_000;
const PROBE_PAUSE_MS = 1_000;

/** Tries the candidate, whose toplevel is in the store, until the trial has ended one way or the other. */
export async function tryRelease(
  agent: AgentContext,
  candidate: Candidate,
  signal: AbortSignal,
): Promise<void> {
  const { config, host, memory, log } = agent;
  const { release } = candidate;
  const asked = requestFor(agent, candidate);
  const request = { ...asked, operation: await chooseWay(agent, asked) };
  await memory.setOperation('activating');
  const now = new Date();
  const baseline = await takeBaseline(agent, candidate, signal);
  const record: TrialRecord = { id: createDeployId(), release, baseline, startedAt: now.toISOString() };
  const facts = { id: record.id, host: config.host, origin: 'pull', token: undefined, now } as const;
  const intent = planIntent(request, facts);
  await memory.update((state) => ({ ...state, trial: record }));
  log.notice(`release ${release.serial}: trying ${release.toplevel} (deploy ${record.id})`);
  await startTrial(host, intent, request);
  await finishTrial(agent, record, signal);
}

function requestFor({ config }: AgentContext, { entry, release }: Candidate): DeployRequest {
  const { lock, activation, probe, commit, rollback, boot } = config.timeouts;
  return {
    toplevel: release.toplevel,
    release: release.commit,
    health: entry.health ?? healthConfig.parse({}),
    timeouts: { lock, activation, confirm: probe + CONFIRM_MARGIN_SECONDS, commit, rollback, boot },
    ...(entry.hooks && { hooks: entry.hooks }),
    // Nobody watches a host that pulls: it reboots only where it was told that it may.
    reboot: config.reboot ?? entry.reboot ?? 'later',
  };
}

/** Live, or by a boot. What policy or boot loader forbid is asked again later: either may change. */
async function chooseWay(agent: AgentContext, request: DeployRequest): Promise<'trial' | 'boot-trial'> {
  const way = planSwitch(request, await readHostFacts(agent.host, request.toplevel));
  if (way.way === 'refuse')
    throw new SlipwayError('deploy_refused', way.detail, {
      next: 'Set reboot = "when-needed" or "later" for this host, or switch it by hand.',
    });
  for (const note of way.notes) agent.log.notice(note);
  return way.way === 'live' ? 'trial' : way.way;
}

/** Follows a trial to its end and draws the conclusion; also what a restarted agent does first. */
export async function finishTrial(
  agent: AgentContext,
  record: TrialRecord,
  signal: AbortSignal,
): Promise<void> {
  const ended = await supervise(agent, record, signal);
  const now = new Date();
  await agent.memory.update((state) => {
    if (ended !== undefined) return afterTrial(state, record, ended, now);
    const { trial: _neverStarted, ...rest } = state;
    return { ...rest, operation: { name: 'idle', since: now.toISOString() } };
  });
  if (ended !== undefined) logEnd(agent, record, ended);
  agent.link.report();
}

function logEnd({ log }: AgentContext, { release }: TrialRecord, { final, failedHooks }: EndedTrial): void {
  const { phase, reason, detail, generation } = final;
  if (phase === 'COMMITTED') log.notice(`release ${release.serial}: committed as generation ${generation}`);
  else log.error(`release ${release.serial}: ${phase} [${reason}] ${detail}`);
  if (failedHooks.length > 0)
    log.error(`release ${release.serial}: hooks failed afterwards: ${nameHooks(failedHooks)}`);
}

/** Takes a toplevel, or all, out of the quarantine that the runner on this host keeps. */
export async function forgiveOnHost(agent: AgentContext, toplevel: string | undefined): Promise<void> {
  const known = await readQuarantine(agent.host);
  for (const entry of known) {
    if (toplevel === undefined || entry.toplevel === toplevel)
      await forgiveToplevel(agent.host, entry.toplevel);
  }
}

async function takeBaseline(
  agent: AgentContext,
  candidate: Candidate,
  signal: AbortSignal,
): Promise<Probe[]> {
  const { remotes, controller, probes: wanted } = agent.config;
  const probes = planProbes({ remotes, caches: cachesOf(candidate, agent.config), controller, wanted });
  const passed = await runProbes(probes, probeContext(agent, signal));
  if (isBlind(probes, passed) && wanted.whenBlind === 'hold') {
    throw new SlipwayError(
      'unavailable',
      'No probe passes even before the activation: a cut network could not be told.',
      {
        next: 'Mend the network first, or set probes.whenBlind = "proceed".',
      },
    );
  }
  return probes.filter((probe) => passed.includes(probe.name));
}

/** Watches to the end, an ended trial too; undefined when the agent died before the host took charge of it. */
async function supervise(
  agent: AgentContext,
  record: TrialRecord,
  signal: AbortSignal,
): Promise<EndedTrial | undefined> {
  const trials = await listTrials(agent.host);
  if (!trials.some((trial) => trial.id === record.id)) return undefined;
  const failedHooks: HookResult[] = [];
  const onHook = (result: HookResult): void => {
    if (result.when === 'after' && result.exit !== 0) failedHooks.push(result);
  };
  let verdict: Promise<void> | undefined;
  const onState = (state: DeployState): void => {
    noteOperation(agent, operationOf(state.phase));
    if (state.phase === 'AWAIT_CONFIRM') verdict ??= giveVerdict(agent, record, signal);
  };
  const final = await watchTrial(agent.host, { id: record.id }, { onState, onHook }, signal);
  await verdict;
  return { final, failedHooks };
}

/** Progress is for the watchers: a full disk must not end the watch over a trial. */
export function noteOperation(agent: AgentContext, operation: AgentOperation): void {
  agent.service.status(operation);
  agent.memory.setOperation(operation).then(
    () => agent.link.report(),
    () => undefined,
  );
}

/** Never rejects: without a verdict the runner waits in vain and rolls back, which is the right end. */
async function giveVerdict(agent: AgentContext, record: TrialRecord, signal: AbortSignal): Promise<void> {
  try {
    await judge(agent, record, signal);
  } catch (error) {
    if (!signal.aborted) agent.log.error(`release ${record.release.serial}: no verdict: ${messageOf(error)}`);
  }
}

/** Confirms as soon as every probe of the baseline passes again; rejects when that does not happen in time. */
async function judge(agent: AgentContext, record: TrialRecord, signal: AbortSignal): Promise<void> {
  const lost = await untilNothingLost(agent, record.baseline, signal);
  if (lost.length === 0) {
    await confirmTrial(agent.host, record.id);
    return;
  }
  const detail = `Not reachable any more since the activation: ${lost.join(', ')}.`;
  agent.log.error(`release ${record.release.serial}: ${detail}`);
  await rejectTrial(agent.host, record.id, 'probes-failed', detail);
}

async function untilNothingLost(
  agent: AgentContext,
  baseline: readonly Probe[],
  signal: AbortSignal,
): Promise<string[]> {
  const end = Date.now() + agent.config.timeouts.probe * 1000;
  const names = baseline.map((probe) => probe.name);
  for (;;) {
    const passed = await runProbes(baseline, probeContext(agent, signal, end));
    const lost = lostProbes(names, passed);
    if (lost.length === 0 || Date.now() >= end) return lost;
    await sleep(Math.min(PROBE_PAUSE_MS, Math.max(0, end - Date.now())), signal);
  }
}

function probeContext(agent: AgentContext, signal: AbortSignal, end = Infinity): ProbeContext {
  const timeoutMs = Math.max(1_000, Math.min(PROBE_TIMEOUT_MS, end - Date.now()));
  return { remotes: agent.config.remotes, timeoutMs, signal };
}

function operationOf(phase: DeployPhase): AgentOperation {
  if (phase === 'TRIAL' || phase === 'BOOT_TRIAL' || phase === 'AWAIT_CONFIRM') return 'trial';
  if (phase === 'STAGING' || phase === 'STAGED' || phase === 'REBOOTING') return 'rebooting';
  if (phase === 'COMMITTING') return 'committing';
  if (phase === 'ROLLING_BACK') return 'rolling-back';
  return isFinal(phase) ? 'idle' : 'activating';
}
