// `slipway deploy`: builds (or takes) toplevels and tries them on hosts over ssh; permanent only when proven.
import type { Command } from 'commander';
import { storePathText } from '../api/manifest.ts';
import type { EmitRunEvent } from '../api/run-events.ts';
import { deployToHost, planDeployToHost } from '../deploy/deploy-to-host.ts';
import type { DeployOutcome } from '../deploy/deploy-outcome.ts';
import type { DeployRequest } from '../deploy/deploy-request.ts';
import { openNix } from '../effects/nix-cli.ts';
import { mapBounded } from '../util/concurrency.ts';
import { asSlipwayError, SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { reportOutcomes, showProgress } from './deploy-report.ts';
import { buildToplevels } from './flake-fleet.ts';
import {
  addHostOptions,
  chooseHosts,
  type ChosenHost,
  type HostOptions,
  openChosenHost,
} from './host-options.ts';

interface DeployOptions extends HostOptions {
  readonly toplevel?: string;
  readonly dryRun?: boolean;
  readonly force?: boolean;
  readonly confirm: boolean;
  readonly substitute?: boolean;
  readonly concurrency: string;
  readonly confirmTimeout?: string;
  readonly activationTimeout?: string;
}

interface Job {
  readonly chosen: ChosenHost;
  readonly request: DeployRequest;
}

const DEFAULT_CONCURRENCY = 10; // colmena's

export function registerDeploy(program: Command, io: CliIo): void {
  const command = program
    .command('deploy')
    .description('Try new systems on hosts over ssh; they become permanent only when proven')
    .argument('[hosts...]', 'names of hosts, or REF#host; default: all push-mode hosts');
  addHostOptions(command)
    .option('--toplevel <path>', 'deploy this store path instead of building it (one host)')
    .option('--dry-run', 'show what would happen; nothing is changed')
    .option('--force', 'also a quarantined system, or one made for another host name')
    .option('--no-confirm', 'do not ask for the confirmation over a fresh connection')
    .option('--substitute', 'let the hosts fetch from their own caches what these have')
    .option('--concurrency <n>', 'hosts at a time', String(DEFAULT_CONCURRENCY))
    .option('--confirm-timeout <seconds>', 'how long the host waits for the confirmation (default: 30)')
    .option('--activation-timeout <seconds>', 'how long the activation may take (default: 240)')
    .addHelpText(
      'after',
      '\nExamples:\n  slipway deploy web1\n  slipway deploy --host root@10.0.0.5 .#web1 --dry-run',
    )
    .action(async (names: string[], options: DeployOptions) => await deploy(names, options, io));
}

async function deploy(names: readonly string[], options: DeployOptions, io: CliIo): Promise<void> {
  const started = performance.now();
  const emit = showProgress(io, options.json === true);
  const jobs = await planJobs(names, options, io);
  if (options.dryRun === true) return await showPlans(jobs, options, io);
  const concurrency = positive(options.concurrency, '--concurrency');
  const outcomes = await mapBounded(jobs, concurrency, async (job) => await runJob(job, emit, io));
  reportOutcomes(io, outcomes, { json: options.json === true, ms: performance.now() - started });
}

async function planJobs(names: readonly string[], options: DeployOptions, io: CliIo): Promise<Job[]> {
  const chosen = await chooseHosts(names, options, io.cwd, io.signal);
  const toplevels = await findToplevels(names, chosen, options, io);
  const timeouts = {
    ...(options.confirmTimeout !== undefined && {
      confirm: positive(options.confirmTimeout, '--confirm-timeout'),
    }),
    ...(options.activationTimeout !== undefined && {
      activation: positive(options.activationTimeout, '--activation-timeout'),
    }),
  };
  return chosen.map((host, index) => ({
    chosen: host,
    request: {
      toplevel: toplevels[index] ?? '',
      release: host.flake ?? 'by-hand',
      health: host.health,
      timeouts,
      confirm: options.confirm,
      force: options.force === true,
      source: options.substitute === true ? 'push-and-substitute' : 'push',
    },
  }));
}

async function findToplevels(
  names: readonly string[],
  chosen: readonly ChosenHost[],
  options: DeployOptions,
  io: CliIo,
): Promise<string[]> {
  if (options.toplevel !== undefined) return [givenToplevel(options.toplevel, chosen)];
  const build = { cwd: io.cwd, signal: io.signal, onLine: options.json === true ? ignore : echo(io) };
  if (options.host === undefined) {
    const hosts = chosen.map((host) => host.name);
    return await buildToplevels(openNix(), chosen[0]?.flake ?? '.', hosts, build);
  }
  const [flake = '.', host = ''] = (names[0] ?? '').split('#');
  if (host !== '') return await buildToplevels(openNix(), flake || '.', [host], build);
  throw new SlipwayError('invalid', '--host needs to know what to deploy there.', {
    next: `Add --toplevel /nix/store/…, or a flake's host: slipway deploy --host ${options.host} .#name`,
  });
}

function givenToplevel(path: string, chosen: readonly ChosenHost[]): string {
  if (chosen.length !== 1)
    throw new SlipwayError('invalid', '--toplevel is for one host.', {
      next: 'Name one host, or use --host.',
    });
  const parsed = storePathText.safeParse(path);
  if (parsed.success) return parsed.data;
  throw new SlipwayError('invalid', `"${path}" is not a store path.`, {
    next: 'Write /nix/store/<hash>-<name>.',
  });
}

async function runJob(job: Job, emit: EmitRunEvent, io: CliIo): Promise<DeployOutcome> {
  const { chosen, request } = job;
  try {
    await using host = await openChosenHost(chosen, io.signal);
    return await deployToHost(host, request, emit, io.signal);
  } catch (error) {
    io.signal.throwIfAborted();
    return { kind: 'unreachable', host: chosen.name, id: '', error: asSlipwayError(error) };
  }
}

async function showPlans(jobs: readonly Job[], options: DeployOptions, io: CliIo): Promise<void> {
  const plans = await mapBounded(jobs, DEFAULT_CONCURRENCY, async ({ chosen, request }) => {
    await using host = await openChosenHost(chosen, io.signal);
    return { host: chosen.name, toplevel: request.toplevel, plan: await planDeployToHost(host, request) };
  });
  if (options.json === true) return io.stdout(`${JSON.stringify({ ok: true, hosts: plans })}\n`);
  for (const { host, toplevel, plan } of plans) {
    if (plan.kind === 'unchanged') io.stdout(`${host}: runs ${toplevel} already\n`);
    else if (plan.kind === 'refuse') io.stdout(`${host}: would refuse (${plan.reason}): ${plan.detail}\n`);
    else io.stdout(`${host}: would ${plan.copy ? 'copy and ' : ''}try ${toplevel}\n`);
  }
}

function positive(text: string, option: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new SlipwayError('invalid', `${option} needs a positive whole number, not "${text}".`);
}

function echo(io: CliIo): (line: string) => void {
  return (line) => io.stderr(`${line}\n`);
}

function ignore(): void {
  // the JSON at the end tells it
}
