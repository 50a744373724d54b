// What `slipway deploy` has to do on each host: the chosen hosts, their toplevels built or taken, and how to try them.
import { NO_HOOKS } from '../api/deploy-hooks.ts';
import { rebootPolicy, type RebootPolicy } from '../api/fleet-config.ts';
import { storePathText } from '../api/manifest.ts';
import type { DeployRequest, DeployTimeouts } from '../deploy/deploy-request.ts';
import { isSystemProfile } from '../deploy/plan-from-deploy-rs.ts';
import { resolveActivatable, resolveActivatableOn } from '../deploy/resolve-activatable.ts';
import { buildOnHost } from '../effects/copy-closure.ts';
import type { Host } from '../effects/host.ts';
import { openNix } from '../effects/nix-cli.ts';
import { mapBounded } from '../util/concurrency.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import {
  buildsOnTarget,
  confirmationOf,
  copySource,
  type DeployOptions,
  deployRsOverrides,
  flag,
  seconds,
} from './deploy-options.ts';
import { buildToplevels, findDerivations, realise } from './flake-fleet.ts';
import { chooseHosts, type ChosenHost } from './host-options.ts';

export interface Job {
  readonly chosen: ChosenHost;
  /** Its toplevel is final unless `build` is to be done on the host first. */
  readonly request: DeployRequest;
  /** Derivations to build on the host. */
  readonly build: readonly string[];
}

const BUILD_JOBS = 4;

export async function planJobs(names: readonly string[], options: DeployOptions, io: CliIo): Promise<Job[]> {
  const wanted = [...names, ...(options.targets ?? [])];
  const settings = { overrides: deployRsOverrides(options), deploy: true };
  const chosen = await chooseHosts(wanted, options, io, settings);
  const built = await findToplevels(wanted, chosen, options, io);
  return await Promise.all(
    chosen.map(async (host, index) => await planJob(host, built[index] ?? { path: '', build: [] }, options)),
  );
}

interface Built {
  readonly path: string;
  readonly build: readonly string[];
}

async function planJob(chosen: ChosenHost, { path, build }: Built, options: DeployOptions): Promise<Job> {
  const request = { ...commonRequest(chosen, options), toplevel: path };
  if (chosen.deployRs === undefined || options.toplevel !== undefined) return { chosen, request, build };
  const { confirm, autoRollback, timeouts, source, target } = chosen.deployRs.plan;
  const toplevel = isSystemProfile(target) && build.length === 0 ? await resolveActivatable(path) : undefined;
  const ours = toplevel === undefined ? { toplevel: path, profile: target } : { toplevel };
  const asked = options.copy === undefined && options.substitute !== true ? { source } : {};
  const settings = { confirm: confirm && request.confirm !== false, autoRollback, timeouts, ...asked };
  return { chosen, request: { ...request, ...settings, ...ours }, build };
}

function commonRequest(chosen: ChosenHost, options: DeployOptions): Omit<DeployRequest, 'toplevel'> {
  if (options.test === true && options.boot === true)
    throw new SlipwayError('invalid', '--test and --boot exclude each other.');
  const confirmAt = confirmationOf(options, chosen.moved);
  return {
    release: chosen.flake ?? 'by-hand',
    health: chosen.health,
    hooks: options.hooks ? chosen.hooks : NO_HOOKS,
    timeouts: askedTimeouts(options),
    confirm: options.confirm && options.magic,
    ...(confirmAt !== undefined && { confirmAt }),
    autoRollback: flag(options.autoRollback, '--auto-rollback') ?? true,
    force: options.force === true,
    reboot: rebootPolicyOf(chosen, options),
    source: copySource(options),
    ...(options.test === true && { operation: 'test' }),
    ...(options.boot === true && { operation: 'boot' }),
  };
}

function askedTimeouts(options: DeployOptions): Partial<DeployTimeouts> {
  const confirm = seconds(options.confirmTimeout, '--confirm-timeout');
  const activation = seconds(options.activationTimeout, '--activation-timeout');
  return {
    ...(confirm !== undefined && { confirm }),
    ...(activation !== undefined && { activation }),
  };
}

function rebootPolicyOf(chosen: ChosenHost, { reboot }: DeployOptions): RebootPolicy {
  if (reboot === undefined) return chosen.reboot;
  const parsed = rebootPolicy.safeParse(reboot);
  if (parsed.success) return parsed.data;
  throw new SlipwayError('invalid', `"${reboot}" says nothing about a reboot.`, {
    next: 'Write --reboot when-needed, later or never.',
  });
}

async function findToplevels(
  names: readonly string[],
  chosen: readonly ChosenHost[],
  options: DeployOptions,
  io: CliIo,
): Promise<Built[]> {
  if (options.toplevel !== undefined) return [{ path: givenToplevel(options.toplevel, chosen), build: [] }];
  const onLine = (line: string): void => {
    // Two evaluations at a time share Nix' cache, and Nix says so; it goes on without it.
    if (options.json !== true && !/^error \(ignored\):.* is busy/.test(line)) io.stderr(`${line}\n`);
  };
  const build = { cwd: io.cwd, signal: io.signal, onLine };
  if (options.host === undefined) return await buildChosen(chosen, options, build);
  const [flake = '.', host = ''] = (names[0] ?? '').split('#');
  if (host !== '') {
    const paths = await buildToplevels(openNix(), flake || '.', [host], build);
    return paths.map((path) => ({ path, build: [] }));
  }
  throw new SlipwayError('invalid', '--host needs to know what to deploy there.', {
    next: `Add --toplevel /nix/store/…, or a flake's host: slipway deploy --host ${options.host} .#name`,
  });
}

async function buildChosen(
  chosen: readonly ChosenHost[],
  options: DeployOptions,
  build: Parameters<typeof buildToplevels>[3],
): Promise<Built[]> {
  const nix = openNix();
  return await mapBounded(chosen, BUILD_JOBS, async ({ name, flake = '.', deployRs }) => {
    if (deployRs !== undefined) {
      const { plan, derivations } = deployRs;
      if (plan.remoteBuild) return { path: plan.path, build: derivations };
      if (derivations.length > 0) await realise(nix, derivations, { ...build, what: name });
      return { path: plan.path, build: [] };
    }
    if (buildsOnTarget(options)) return await findDerivations(nix, flake, name, build);
    const [path = ''] = await buildToplevels(nix, flake, [name], build);
    return { path, build: [] };
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

/** Builds on the host what is to be built there, and names the toplevel that came out. */
export async function finishJob(
  host: Host,
  { chosen, request, build }: Job,
  signal: AbortSignal,
): Promise<DeployRequest> {
  if (build.length === 0) return request;
  await buildOnHost(host, build, { signal });
  if (chosen.deployRs === undefined || !isSystemProfile(chosen.deployRs.plan.target)) return request;
  const toplevel = await resolveActivatableOn(host, request.toplevel);
  if (toplevel === undefined) return request;
  const { profile: _, ...system } = request;
  return { ...system, toplevel };
}
