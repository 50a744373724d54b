// `slipway deploy`: builds (or takes) toplevels and tries them on hosts over ssh; permanent only when proven.
import { createHash } from 'node:crypto';
import type { Command } from 'commander';
import type { EmitRunEvent } from '../api/run-events.ts';
import type { DeployOutcome } from '../deploy/deploy-outcome.ts';
import { deployToHost, planDeployToHost } from '../deploy/deploy-to-host.ts';
import { planRollout } from '../deploy/rollout-plan.ts';
import { type RolloutHost, runRollout } from '../deploy/run-rollout.ts';
import { takeBack } from '../deploy/take-back.ts';
import { deployError } from '../deploy/deploy-outcome.ts';
import { mapBounded } from '../util/concurrency.ts';
import { asSlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { finishJob, type Job, planJobs } from './deploy-jobs.ts';
import { addDeployOptions, type DeployOptions, rolloutPolicy, waveSteps } from './deploy-options.ts';
import { reportOutcomes, showProgress } from './deploy-report.ts';
import { addHostOptions, openChosenHost } from './host-options.ts';

const PLAN_CONCURRENCY = 10;

export function registerDeploy(program: Command, io: CliIo): void {
  const command = program
    .command('deploy')
    .description('Try new systems on hosts over ssh; they become permanent only when proven')
    .argument('[hosts...]', 'names of hosts, REF#host or REF#node.profile; default: all push-mode hosts');
  addDeployOptions(addHostOptions(command))
    .addHelpText(
      'after',
      '\nExamples:\n  slipway deploy web1\n  slipway deploy --on tag:web --canary 1 --max-failures 5%\n  slipway deploy --host root@10.0.0.5 .#web1 --dry-run',
    )
    .action(async (names: string[], options: DeployOptions) => await deploy(names, options, io));
}

async function deploy(names: readonly string[], options: DeployOptions, io: CliIo): Promise<void> {
  const started = performance.now();
  const json = options.json === true;
  const jobs = await planJobs(names, options, io);
  if (options.dryRun === true) return await showPlans(jobs, options, io);
  const emit = showProgress(io, json);
  const machines = Map.groupBy(jobs, ({ chosen }) => chosen.node);
  const policy = rolloutPolicy(options, machines.size);
  const waves = planWaves(machines, options);
  const hosts = waves.map((wave) =>
    wave.map((node) => rolloutHost(node, machines.get(node) ?? [], { options, io, emit })),
  );
  const outcomes = await runRollout(hosts, policy, io.signal);
  reportOutcomes(io, outcomes, { json, ms: performance.now() - started });
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
  const plans = await mapBounded(jobs, PLAN_CONCURRENCY, async ({ chosen, request }) => {
    await using host = await openChosenHost(chosen, options, io);
    return { host: chosen.name, toplevel: request.toplevel, plan: await planDeployToHost(host, request) };
  });
  if (options.json === true) return io.stdout(`${JSON.stringify({ ok: true, hosts: plans })}\n`);
  for (const { host, toplevel, plan } of plans) {
    if (plan.kind === 'unchanged') io.stdout(`${host}: runs ${toplevel} already\n`);
    else if (plan.kind === 'refuse') io.stdout(`${host}: would refuse (${plan.reason}): ${plan.detail}\n`);
    else io.stdout(`${host}: would ${plan.copy ? 'copy and ' : ''}try ${toplevel}\n`);
  }
}
