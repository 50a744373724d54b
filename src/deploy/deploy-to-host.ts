// A push deploy to one host, from preflight to the truth about its end. Never throws for what a host did or refused:
// that is the outcome. When the connection dies, it comes back and reads what the host did meanwhile.
import { randomBytes } from 'node:crypto';
import { NO_HOOKS } from '../api/deploy-hooks.ts';
import { isFinal } from '../api/deploy-state.ts';
import type { EmitRunEvent } from '../api/run-events.ts';
import { copyClosure, substituteClosure } from '../effects/copy-closure.ts';
import type { Host } from '../effects/host.ts';
import { asSlipwayError, type ErrorCode, SlipwayError } from '../util/errors.ts';
import { readClosureFacts, readMissingSize } from './closure-facts.ts';
import { createDeployId } from './deploy-id.ts';
import { type DeployOutcome, outcomeOf } from './deploy-outcome.ts';
import { type ClosureFacts, planDeploy, type DeployPlan } from './deploy-plan.ts';
import { DeployProgress } from './deploy-progress.ts';
import type { DeployRequest } from './deploy-request.ts';
import { describeHook, runControllerHooks } from './controller-hooks.ts';
import { endOf, failedOnHost, hookFacts, hooksOn, isWanted } from './hook-plan.ts';
import { type DeployHostFacts, readHostFacts } from './host-facts.ts';
import { planSwitch } from './plan-switch.ts';
import { PushTrial } from './push-trial.ts';
import { Reachable } from './reachable.ts';
import { planIntent } from './trial-intent.ts';

const CONNECTION_CODES: readonly ErrorCode[] = ['host_unreachable', 'host_key_mismatch', 'unauthorized'];

async function look(
  host: Host,
  request: DeployRequest,
): Promise<{ readonly facts: DeployHostFacts; readonly plan: DeployPlan }> {
  const [facts, closure] = await Promise.all([
    readHostFacts(host, request.toplevel, request.profile),
    readClosureFacts(request.toplevel),
  ]);
  return { facts, plan: await planWith(host, request, { facts, closure }) };
}

/** The plan from facts that are known already; only where space is tight the host is asked once more. */
export async function planWith(
  host: Host,
  request: DeployRequest,
  { facts, closure }: { readonly facts: DeployHostFacts; readonly closure: ClosureFacts },
): Promise<DeployPlan> {
  const plan = planDeploy(request, facts, closure);
  if (plan.kind !== 'go' || !plan.tight || host.store === undefined) return plan;
  const missing = await readMissingSize(host, request.toplevel);
  if (missing < facts.storeFreeBytes) return plan;
  const detail = `The closure needs ${missing} bytes more, the store has ${facts.storeFreeBytes} free.`;
  return { kind: 'refuse', reason: 'disk-full', detail };
}

/** Deploys, waits for the end, and returns how it ended. An abort tells the host to roll back, then throws. */
export async function deployToHost(
  host: Host,
  request: DeployRequest,
  emit: EmitRunEvent,
  signal?: AbortSignal,
): Promise<DeployOutcome> {
  const progress = new DeployProgress(host.name, request.toplevel, emit);
  try {
    return await deploy(host, request, progress, signal);
  } catch (error) {
    signal?.throwIfAborted();
    return failed(host.name, error, progress);
  }
}

async function deploy(
  host: Host,
  request: DeployRequest,
  progress: DeployProgress,
  signal: AbortSignal | undefined,
): Promise<DeployOutcome> {
  progress.phase('preparing');
  const { facts, plan } = await progress.span('preflight', async () => await look(host, request));
  if (plan.kind === 'unchanged') {
    progress.phase('unchanged', 'this system runs there already');
    return { kind: 'unchanged', host: host.name, toplevel: request.toplevel };
  }
  if (plan.kind === 'refuse') return refused(host.name, plan.reason, plan.detail, progress);
  for (const note of plan.notes) progress.log(note);
  if (plan.copy) await copy(host, request, progress, signal);
  signal?.throwIfAborted();
  // What needs a boot is known once the host has the new system.
  const seen = plan.copy ? await readHostFacts(host, request.toplevel, request.profile) : facts;
  const way = planSwitch(request, seen);
  if (way.way === 'refuse') return refused(host.name, way.reason, way.detail, progress);
  for (const note of way.notes) progress.log(note);
  const asked = way.way === 'boot-trial' ? { ...request, operation: way.way } : request;
  return await runHooked(host, asked, progress, signal);
}

/** The trial between its hooks on this machine; whatever comes of it, the after-hooks run once the before-hooks began. */
async function runHooked(
  host: Host,
  request: DeployRequest,
  progress: DeployProgress,
  signal: AbortSignal | undefined,
): Promise<DeployOutcome> {
  const { before, after } = hooksOn('controller', request.hooks ?? NO_HOOKS);
  const onLine = (line: string): void => progress.log(line);
  const facts = hookFacts(host.name, request);
  const end = async (outcome: DeployOutcome): Promise<DeployOutcome> => {
    const due = after.filter((hook) => isWanted(hook, endOf(outcome)));
    const told = hookFacts(host.name, request, outcome);
    const bad = await runControllerHooks(due, { when: 'after', facts: told, onLine });
    return bad.length === 0 ? outcome : { ...outcome, failedHooks: [...(outcome.failedHooks ?? []), ...bad] };
  };
  try {
    const [stopped] = await runControllerHooks(before, { when: 'before', facts, onLine, signal });
    if (stopped === undefined) return await end(await runTrial(host, request, progress, signal));
    return await end(refused(host.name, 'hook-failed', describeHook(stopped, 'on this machine'), progress));
  } catch (error) {
    await end({ kind: 'failed', host: host.name, error: asSlipwayError(error) });
    throw error;
  }
}

async function copy(
  host: Host,
  request: DeployRequest,
  progress: DeployProgress,
  signal: AbortSignal | undefined,
): Promise<void> {
  progress.phase('copying');
  const options = { onLine: (line: string) => progress.log(line), ...(signal && { signal }) };
  const { source = 'push', toplevel } = request;
  await progress.span('copy', async () => {
    if (source === 'substitute') await substituteClosure(host, toplevel, undefined, options);
    else if (typeof source === 'object') await substituteClosure(host, toplevel, source, options);
    else {
      const substituteOnHost = source === 'push-and-substitute';
      await copyClosure(host, toplevel, { ...options, substituteOnHost });
    }
  });
}

async function runTrial(
  host: Host,
  request: DeployRequest,
  progress: DeployProgress,
  signal: AbortSignal | undefined,
): Promise<DeployOutcome> {
  const token = request.confirm === false ? undefined : randomBytes(24).toString('base64url');
  const facts = { id: createDeployId(), host: host.name, origin: 'push', token, now: new Date() } as const;
  const intent = planIntent(request, facts);
  const trial = new PushTrial(new Reachable(host, request.confirmAt), intent, token, progress);
  const first = await trial.start(request);
  if (isFinal(first.phase)) return outcomeOf(host.name, first);
  try {
    const state = await trial.follow(signal);
    const failedHooks = failedOnHost(request.hooks ?? NO_HOOKS, state, trial.hooks);
    const outcome = outcomeOf(host.name, state);
    return failedHooks.length === 0 ? outcome : { ...outcome, failedHooks };
  } catch (error) {
    if (signal?.aborted === true) await trial.cancel();
    signal?.throwIfAborted();
    return lost(host.name, intent.id, error, progress);
  }
}

function refused(host: string, reason: string, detail: string, progress: DeployProgress): DeployOutcome {
  progress.phase(reason === 'quarantined' ? 'quarantined' : 'refused', `${reason}: ${detail}`);
  return { kind: 'refused', host, reason, detail };
}

/** What an error means while nothing has been started: the host was not reached, or something else stood in the way. */
function failed(host: string, error: unknown, progress: DeployProgress): DeployOutcome {
  const cause = asSlipwayError(error);
  progress.phase('failed', cause.message);
  if (CONNECTION_CODES.includes(cause.code)) return { kind: 'unreachable', host, id: '', error: cause };
  return { kind: 'failed', host, error: cause };
}

function lost(host: string, id: string, error: unknown, progress: DeployProgress): DeployOutcome {
  const cause = asSlipwayError(error);
  progress.phase('failed', cause.message);
  const told = new SlipwayError(
    'host_unreachable',
    `How the deploy on ${host} ended is not known: ${cause.message}`,
    {
      next: `The host decides by itself and goes back unless it was confirmed. Ask it later: slipway status ${host}`,
      cause,
      facts: { host, id },
    },
  );
  return { kind: 'unreachable', host, id, error: told };
}
