// One step of the agent: answer requests, finish a trial that is under way, ask the remotes, choose, act. Whatever
// it decides is computed from facts of this moment; what it remembers is only what cannot be looked up.
import { asSlipwayError } from '../util/errors.ts';
import type { AgentContext } from './agent-context.ts';
import { withApplied, withRetry } from './after-trial.ts';
import { mainlineOf, withoutQuarantine, withQuarantine, type AgentState } from './agent-state.ts';
import { chooseRelease, weighRemotes } from './choose-release.ts';
import {
  findSuspension,
  readAgentRequests,
  removeAgentRequest,
  type ReceivedRequest,
} from './control-files.ts';
import { holdInForce } from './controller-link.ts';
import { fetchReleases } from './fetch-release.ts';
import { readHostFacts } from './host-facts.ts';
import { dropNextRoot, realiseToplevel } from './realise-toplevel.ts';
import type { Candidate, ReleaseDecision, ReleaseFacts } from './release-facts.ts';
import { finishTrial, forgiveOnHost, noteOperation, tryRelease } from './try-release.ts';

/** A fetch that takes longer is shown as the operation under way. */
const SLOW_FETCH_MS = 2_000;
/** The same decision is written again after this time. */
const REFRESH_MS = 5 * 60_000;

/** Failures that a second try meets again, unless it was the network that failed an evaluation. */
const HOPELESS: ReadonlySet<string> = new Set(['evaluation_failed', 'build_failed', 'conflict']);
const NETWORK_FAILURE =
  /unable to download|could not resolve|failed to connect|timed out|connection (refused|reset)/i;

export async function reconcileOnce(agent: AgentContext, signal: AbortSignal): Promise<void> {
  if (agent.memory.state.trial !== undefined) await finishTrial(agent, agent.memory.state.trial, signal);
  const requests = await takeRequests(agent);
  const facts = await gatherFacts(agent, signal);
  const decision = chooseRelease(facts);
  await noteDecision(agent, facts, decision);
  await act(agent, decision, signal);
  await answerRequests(agent, requests);
}

/** Requests take effect before the poll; they are answered, and their files go, after it. */
async function takeRequests(agent: AgentContext): Promise<ReceivedRequest[]> {
  const requests = await readAgentRequests(agent.config.stateDir);
  if (requests.length === 0) return [];
  agent.schedule.wakeAll();
  for (const request of requests) {
    if (request.kind === 'retry') await forgiveOnHost(agent, request.toplevel);
    await agent.memory.update((state) => applyRequest(state, request));
    agent.log.notice(`asked to ${request.kind}`);
  }
  return requests;
}

function applyRequest(state: AgentState, request: ReceivedRequest): AgentState {
  const { retry: _pause, ...eager } = state;
  if (request.kind === 'retry') return withoutQuarantine(eager, request.toplevel);
  return request.kind === 'accept' ? { ...eager, accepted: request.commit } : eager;
}

async function answerRequests(agent: AgentContext, requests: readonly ReceivedRequest[]): Promise<void> {
  if (requests.length === 0) return;
  const ids = requests.map((request) => request.id);
  await agent.memory.update((state) => ({ ...state, answered: [...state.answered, ...ids] }));
  for (const id of ids) await removeAgentRequest(agent.config.stateDir, id);
}

async function gatherFacts(agent: AgentContext, signal: AbortSignal): Promise<ReleaseFacts> {
  const { config, memory, schedule } = agent;
  const asked = config.remotes.map((_, index) => schedule.isDue(index));
  // A poll that answers at once is not worth a write to a small machine's SD card.
  const slow = setTimeout(() => noteOperation(agent, 'fetching'), SLOW_FETCH_MS);
  try {
    agent.lastRemotes = await fetchReleases(agent.mirror, config, {
      mainline: mainlineOf(memory.state)?.commit,
      isDue: (index) => asked[index] === true,
      last: agent.lastRemotes,
      signal,
    });
  } finally {
    clearTimeout(slow);
  }
  for (const [index, remote] of agent.lastRemotes.entries()) {
    if (asked[index] === true) schedule.asked(index, remote.kind !== 'unreachable');
  }
  await memory.setOperation('idle');
  return await releaseFacts(agent);
}

async function releaseFacts(agent: AgentContext): Promise<ReleaseFacts> {
  const { config, memory } = agent;
  const now = new Date();
  const [host, suspension] = await Promise.all([readHostFacts(), findSuspension(config.stateDir, now)]);
  const { retry } = memory.state;
  return {
    host: config.host,
    now,
    remotes: agent.lastRemotes,
    applied: memory.state.applied,
    mainline: mainlineOf(memory.state),
    current: host.current,
    profile: host.profile,
    quarantine: memory.state.quarantine,
    accepted: memory.state.accepted,
    suspended: suspension && {
      reason: suspension.reason,
      until: suspension.until === undefined ? undefined : new Date(suspension.until),
    },
    hold: holdInForce(memory.state, config.controllerGrace, now),
    retry: retry && { toplevel: retry.toplevel, notBefore: new Date(retry.notBefore), note: retry.note },
    maxReleaseAge: config.maxReleaseAge,
    selfHeal: config.selfHeal,
  };
}

/** Told and written when it changes; else written now and then, so that its time stays fresh. */
async function noteDecision(
  agent: AgentContext,
  facts: ReleaseFacts,
  decision: ReleaseDecision,
): Promise<void> {
  const seen = seenOf(facts, decision);
  const remotes = remotesOf(facts);
  const before = agent.memory.state;
  const news = fingerprint(before.seen) !== fingerprint(seen);
  const stale = facts.now.getTime() - Date.parse(before.seen?.at ?? '') > REFRESH_MS;
  if (news) logDecision(agent, decision);
  if (news || stale || verdictsOf(before.remotes) !== verdictsOf(remotes)) {
    await agent.memory.update((state) => ({ ...state, seen, remotes }));
  }
  if (news) agent.link.report();
  if (news) agent.service.status(decision.because.detail);
}

/** What a decision says, without its time. */
function fingerprint(seen: AgentState['seen']): string {
  return JSON.stringify([seen?.decision, seen?.reason, seen?.detail, seen?.release?.commit]);
}

function verdictsOf(remotes: AgentState['remotes']): string {
  return JSON.stringify(remotes.map(({ url, note }) => [url, note]));
}

function seenOf(facts: ReleaseFacts, decision: ReleaseDecision): NonNullable<AgentState['seen']> {
  const { because, candidate, kind } = decision;
  const release = candidate && { release: candidate.release };
  return { decision: kind, ...because, ...release, at: facts.now.toISOString() };
}

function remotesOf(facts: ReleaseFacts): AgentState['remotes'] {
  const verdicts = weighRemotes(facts);
  return facts.remotes.map((remote, index) => {
    const said = verdicts[index];
    return { url: remote.url, ok: said === undefined, note: said?.detail ?? '', at: facts.now.toISOString() };
  });
}

function logDecision(agent: AgentContext, { because, kind }: ReleaseDecision): void {
  const line = because.next === undefined ? because.detail : `${because.detail} ${because.next}`;
  if (kind === 'refuse') agent.log.warn(`refused [${because.reason}] ${line}`);
  else agent.log.info(line);
}

async function act(agent: AgentContext, decision: ReleaseDecision, signal: AbortSignal): Promise<void> {
  if (decision.kind === 'current') await noteCurrent(agent, decision.candidate);
  if (decision.kind === 'apply') await applyRelease(agent, decision.candidate, signal);
}

/** The host already is what the release wants: only the history moves on. */
async function noteCurrent(agent: AgentContext, { release, base }: Candidate): Promise<void> {
  const { applied, mainline } = agent.memory.state;
  if (applied?.commit === release.commit && (base === undefined || base.commit === mainline?.commit)) return;
  await agent.memory.update((state) => withApplied(withBase(state, base), release, new Date()));
}

/** A testing release vouches for the release below it: from now on the main branch may not go behind that one. */
function withBase(state: AgentState, base: Candidate['base']): AgentState {
  return base === undefined ? state : { ...state, mainline: base };
}

async function applyRelease(agent: AgentContext, candidate: Candidate, signal: AbortSignal): Promise<void> {
  const { release, base } = candidate;
  const at = new Date().toISOString();
  await agent.memory.update((state) => ({ ...withBase(state, base), lastAttempted: { ...release, at } }));
  try {
    await agent.memory.setOperation('substituting');
    agent.link.report();
    await realiseToplevel(candidate, {
      config: agent.config,
      mirror: agent.mirror,
      signal,
      onBuild: async () => await agent.memory.setOperation('building'),
    });
    await tryRelease(agent, candidate, signal);
  } catch (error) {
    signal.throwIfAborted();
    await noteFailure(agent, candidate, error);
  } finally {
    if (!signal.aborted) await dropNextRoot();
  }
}

/** A release that never got as far as a trial: what will fail again is quarantined, the rest is tried again later. */
async function noteFailure(agent: AgentContext, { release }: Candidate, thrown: unknown): Promise<void> {
  const error = asSlipwayError(thrown);
  const now = new Date();
  const at = now.toISOString();
  const hopeless = HOPELESS.has(error.code) && !NETWORK_FAILURE.test(error.message);
  const reason = error.code.replaceAll('_', '-');
  agent.log.error(
    `release ${release.serial}: ${error.message}${error.next === undefined ? '' : ` ${error.next}`}`,
  );
  await agent.memory.update((state) => {
    const failed = {
      ...state,
      operation: { name: 'idle' as const, since: at },
      lastResult: { toplevel: release.toplevel, phase: 'FAILED', reason, detail: error.message, at },
    };
    if (!hopeless) return withRetry(failed, { toplevel: release.toplevel, note: error.message }, now);
    return withQuarantine(failed, { ...release, reason, detail: error.message, at });
  });
}
