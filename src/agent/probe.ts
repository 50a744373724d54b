// Runs probes from this host over fresh connections: git ls-remote with the real credentials, the cache's
// nix-cache-info, the controller's healthz. Any answer that shows that the other side is there counts: a 401 of a
// private cache proves the network as well as a 200.
import type { AgentRemote } from '../api/agent-config.ts';
import { listRemoteBranch } from './list-remote-branch.ts';
import { mapBounded } from '../util/concurrency.ts';
import { sendHttpRequest } from './http-request.ts';
import type { Probe } from './probe-plan.ts';

export interface ProbeContext {
  readonly remotes: readonly AgentRemote[];
  /** Longest time for one probe, in ms. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

const CONCURRENCY = 4;
const SERVER_ERROR = 500;

/** The names of the probes that pass now. */
export async function runProbes(probes: readonly Probe[], context: ProbeContext): Promise<string[]> {
  const passed = await mapBounded(probes, CONCURRENCY, async (probe) => await passes(probe, context));
  context.signal.throwIfAborted();
  return probes.filter((_, index) => passed[index] === true).map((probe) => probe.name);
}

async function passes(probe: Probe, context: ProbeContext): Promise<boolean> {
  try {
    if (probe.kind === 'remote') return await remoteAnswers(probe, context);
    const { timeoutMs, signal } = context;
    const answer = await sendHttpRequest({ method: 'GET', url: addressOf(probe), timeoutMs, signal });
    return answer.status < SERVER_ERROR;
  } catch {
    return false; // why it failed does not matter: the trial's report names the probe
  }
}

async function remoteAnswers(probe: Probe, context: ProbeContext): Promise<boolean> {
  const remote = context.remotes.find((one) => one.url === probe.url);
  if (remote === undefined) return false;
  await listRemoteBranch(remote, context.timeoutMs, context.signal);
  return true;
}

function addressOf(probe: Probe): string {
  const base = probe.url.replace(/[?#].*$/, '').replace(/\/+$/, '');
  return probe.kind === 'cache' ? `${base}/nix-cache-info` : `${base}/healthz`;
}
