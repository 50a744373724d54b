// `slipway deploy`: builds (or takes) toplevels and tries them on hosts over ssh; permanent only when proven.
import { createHash } from 'node:crypto';
import type { Command } from 'commander';
import { NO_HOOKS } from '../api/deploy-hooks.ts';
import type { EmitRunEvent } from '../api/run-events.ts';
import type { DeployOutcome } from '../deploy/deploy-outcome.ts';
import { deployToHost } from '../deploy/deploy-to-host.ts';
import { type Preflight, readPreflight } from '../deploy/preflight.ts';
import { copyClosure } from '../effects/copy-closure.ts';
import { planRollout } from '../deploy/rollout-plan.ts';
import { withRolloutHooks } from '../deploy/rollout-hooks.ts';
import { type RolloutHost, runRollout } from '../deploy/run-rollout.ts';
import { takeBack } from '../deploy/take-back.ts';
import { deployError } from '../deploy/deploy-outcome.ts';
import { mapBounded } from '../util/concurrency.ts';
import { asSlipwayError, exitCode, type SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { finishJob, type Job, planJobs } from './deploy-jobs.ts';
import { addDeployOptions, type DeployOptions, rolloutPolicy, waveSteps } from './deploy-options.ts';
import { openProgressView } from './deploy-progress-view.ts';
import { reportOutcomes } from './deploy-report.ts';
import { failureJson, reportFailure } from './failure.ts';
import { addHostOptions, openChosenHost } from './host-options.ts';
import { resumeDeploy } from './resume-deploy.ts';
import { formatPreflight } from './preflight-report.ts';

const PLAN_CONCURRENCY = 10;

export function registerDeploy(program: Command, io: CliIo): void {
  const command = program
    .command('deploy')
    .description('Try new systems on hosts over ssh; they become permanent only when proven')
    .argument(
      '[hosts...]',
      'names of hosts, REF#host or REF#node.profile; default: all push-mode hosts; `resume HOST` takes up a lost deploy',
    );
  addDeployOptions(addHostOptions(command))
    .addHelpText(
      'after',
      '\nExamples:\n  slipway deploy web1\n  slipway deploy --on tag:web --canary 1 --max-failures 5%\n  slipway deploy --host root@10.0.0.5 .#web1 --dry-run\n  slipway deploy resume web1',
    )
    .action(async (names: string[], options: DeployOptions) => await deploy(names, options, io));
}

async function deploy(names: readonly string[], options: DeployOptions, io: CliIo): Promise<void> {
  if (names[0] === 'resume') return await resumeDeploy(names.slice(1), options, io);
  const started = performance.now();
  const json = options.json === true;
  const jobs = await planJobs(names, options, io);
  if (options.dryRun === true || options.dryActivate === true) return await showPlans(jobs, options, io);
  const machines = Map.groupBy(jobs, ({ chosen }) => chosen.node);
  const waves = planWaves(machines, options);
  const everyone = waves.flat();
  using view = openProgressView(io, { json, events: options.events === true, hosts: everyone });
  const { emit } = view;
  const hosts = waves.map((wave) =>
    wave.map((node) => rolloutHost(node, machines.get(node) ?? [], { options, io, emit })),
  );
  const hooks = options.hooks ? (jobs[0]?.chosen.fleetHooks ?? NO_HOOKS) : NO_HOOKS;
  const onLine = (line: string): void => emit({ kind: 'log', stage: 'deploy', line });
  const policy = rolloutPolicy(options, machines.size);
  try {
    const rollout = { hooks, hosts: everyone, onLine, signal: io.signal };
    const ended = await withRolloutHooks(rollout, async () => await runRollout(hosts, policy, io.signal));
    view[Symbol.dispose]();
    reportOutcomes(io, ended.outcomes, {
      json,
      ms: performance.now() - started,
      failedHooks: ended.failedHooks,
    });
  } catch (error) {
    view[Symbol.dispose]();
    if (io.signal.aborted) view.tellLeft();
    throw error;
  }
}

/** The seed is what is deployed: the same rollout, begun again, begins with the same hosts. */
function planWaves(machines: ReadonlyMap<string, readonly Job[]>, options: DeployOptions): string[][] {
  const members = [...machines].map(([name, [job]]) => ({
    name,
    tags: job?.chosen.tags ?? [],
    wave: job?.chosen.wave ?? 1,
  }));
  const paths = [...machines.values()].flat().map(({ request }) => request.toplevel);
  const seed = createHash('sha256').update(paths.toSorted().join('\n')).digest('hex');
  return planRollout(members, waveSteps(options), seed);
}

interface Surroundings {
  readonly options: DeployOptions;
  readonly io: CliIo;
  readonly emit: EmitRunEvent;
}

/** One machine: its profiles one after the other; the first that fails is the last. */
function rolloutHost(name: string, jobs: readonly Job[], around: Surroundings): RolloutHost {
  return {
    name,
    deploy: async () => {
      const outcomes: DeployOutcome[] = [];
      for (const job of jobs) {
        const outcome = await runJob(job, around);
        outcomes.push(outcome);
        if (deployError(outcome) !== undefined) break;
      }
      return outcomes;
    },
    takeBack: async (outcomes) => {
      const back: DeployOutcome[] = [];
      for (const [index, outcome] of outcomes.entries()) back.push(await undo(jobs[index], outcome, around));
      return back;
    },
  };
}

async function runJob(job: Job, { options, io, emit }: Surroundings): Promise<DeployOutcome> {
  try {
    await using host = await openChosenHost(job.chosen, options, io);
    const request = await finishJob(host, job, io.signal);
    return { ...(await deployToHost(host, request, emit, io.signal)), host: job.chosen.name };
  } catch (error) {
    io.signal.throwIfAborted();
    return { kind: 'unreachable', host: job.chosen.name, id: '', error: asSlipwayError(error) };
  }
}

async function undo(
  job: Job | undefined,
  outcome: DeployOutcome,
  { options, io, emit }: Surroundings,
): Promise<DeployOutcome> {
  if (job === undefined || (outcome.kind !== 'committed' && outcome.kind !== 'degraded')) return outcome;
  await using host = await openChosenHost(job.chosen, options, io);
  return await takeBack(host, { request: job.request, outcome }, emit, io.signal);
}

async function showPlans(jobs: readonly Job[], options: DeployOptions, io: CliIo): Promise<void> {
  const plans = await mapBounded(jobs, PLAN_CONCURRENCY, async (job) => await planOne(job, options, io));
  if (options.json === true) {
    const ok = plans.every((plan) => !('error' in plan));
    const hosts = plans.map((plan) =>
      'error' in plan ? { host: plan.host, error: failureJson(plan.error) } : plan,
    );
    io.stdout(`${JSON.stringify({ ok, hosts })}\n`);
  } else {
    for (const plan of plans)
      if ('error' in plan) reportFailure(io, plan.error, false);
      else io.stdout(formatPreflight(io, plan));
  }
  const failed = plans.find((plan) => 'error' in plan);
  if (failed !== undefined) process.exitCode = exitCode(failed.error);
}

type HostPlan =
  | { readonly host: string; readonly toplevel: string; readonly preflight: Preflight }
  | { readonly host: string; readonly error: SlipwayError };

async function planOne(job: Job, options: DeployOptions, io: CliIo): Promise<HostPlan> {
  const { chosen, request } = job;
  try {
    await using host = await openChosenHost(chosen, options, io);
    if (options.dryActivate === true) await copyClosure(host, request.toplevel, { signal: io.signal });
    return { host: chosen.name, toplevel: request.toplevel, preflight: await readPreflight(host, request) };
  } catch (error) {
    io.signal.throwIfAborted();
    return { host: chosen.name, error: asSlipwayError(error) };
  }
}
