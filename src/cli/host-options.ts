// Which hosts a deploy command means, and how they are reached: hosts of a flake (`--flake`, `REF#host`), or one
// address by hand (`--host root@address`).
import type { Command } from 'commander';
import { type Hooks, NO_HOOKS } from '../api/deploy-hooks.ts';
import { type HealthConfig, healthConfig, type HostConfig, type RebootPolicy } from '../api/fleet-config.ts';
import { openSshHost } from '../effects/ssh-host.ts';
import type { Host, HostAddress } from '../effects/host.ts';
import { parseSshTarget, type SshTarget, sshTargetOf } from '../effects/ssh-target.ts';
import { openNix } from '../effects/nix-cli.ts';
import { SlipwayError } from '../util/errors.ts';
import { parseDeployTarget, parseFragment, type DeployTargetName } from '../deploy/parse-deploy-target.ts';
import { type DeployRsOverrides, isSystemProfile } from '../deploy/plan-from-deploy-rs.ts';
import { DEFAULT_REBOOT } from '../deploy/plan-switch.ts';
import { selectMembers } from '../deploy/rollout-plan.ts';
import type { FleetFacts } from '../pipeline/fleet-facts.ts';
import { findNearest } from '../util/nearest.ts';
import type { CliIo } from './cli-io.ts';
import { type DeployRsJob, readDeployRs } from './deploy-rs-fleet.ts';
import { readFlakeFleet } from './flake-fleet.ts';
import { sudoPasswordOf } from './sudo-password.ts';

export interface HostOptions {
  readonly flake?: string;
  readonly host?: string;
  readonly hostKey?: string;
  readonly json?: boolean;
  readonly on?: string;
  readonly askSudoPassword?: boolean;
  readonly sudoPassword?: string;
}

/** A host that a command acts on. */
export interface ChosenHost {
  readonly name: string;
  readonly target: SshTarget;
  readonly health: HealthConfig;
  readonly reboot: RebootPolicy;
  /** Undefined for `--host`: there is no flake to build from. */
  readonly flake: string | undefined;
  readonly tags: readonly string[];
  readonly wave: number;
  /** Where the fleet says that it answers, when the command line names another address. */
  readonly moved?: HostAddress;
  readonly hooks: Hooks;
  /** Of the whole fleet's rollouts. */
  readonly fleetHooks: Hooks;
  /** The machine, where several profiles are deployed to one. */
  readonly node: string;
  /** From a deploy-rs flake: the profile and its settings. */
  readonly deployRs?: DeployRsJob;
}

export function addHostOptions(command: Command): Command {
  return command
    .option('--flake <ref>', 'the flake that describes the hosts (default: .)')
    .option('--host <destination>', 'one host by address, as root@address or root@address:port')
    .option('--host-key <key>', 'with --host: the ssh public key that it must show')
    .option('--on <selection>', 'hosts by tag or name: tag:web,pi1')
    .option('--ask-sudo-password', 'ask once for the password that sudo wants on the hosts')
    .option('--sudo-password <reference>', 'where that password is: file:PATH, env:NAME or credential:NAME')
    .option('--json', 'print one JSON object');
}

export interface ChooseSettings {
  /** Settings over those of a deploy-rs flake. */
  readonly overrides?: DeployRsOverrides;
  /** Whether the profiles of a deploy-rs flake are to be deployed, not only reached. */
  readonly deploy?: boolean;
}

/**
 * The hosts that the names mean; without names, all push-mode hosts of the flake. A flake without a `slipway` output is
 * read as deploy-rs reads it, and so is one for a name with a profile (`.#web1.hello`).
 */
export async function chooseHosts(
  names: readonly string[],
  options: HostOptions,
  io: Pick<CliIo, 'cwd' | 'signal'>,
  settings: ChooseSettings = {},
): Promise<ChosenHost[]> {
  if (options.host !== undefined) return [chooseByAddress(names, options.host, options.hostKey)];
  const { flake, wanted } = splitNames(names, options.flake);
  const { cwd, signal } = io;
  const nix = openNix();
  const fleet = await readFlakeFleet(nix, flake, cwd, signal);
  const paths = settings.deploy === true;
  if (!fleet.described || wanted.some(({ profile }) => profile !== undefined)) {
    const question = { nix, flake, cwd, signal, wanted, overrides: settings.overrides ?? {}, paths };
    const jobs = await readDeployRs(question);
    if (jobs !== undefined) return selectFrom(chooseProfiles(jobs, { flake, paths, wanted }), options.on);
  }
  const chosen = chooseFromFleet(fleet.read(), { flake, wanted, on: options.on });
  return reachAt(chosen, settings.overrides?.hostname);
}

/** `--hostname`: one host, reached at another address than the fleet gives it, because it is about to move there. */
function reachAt(chosen: ChosenHost[], hostname: string | undefined): ChosenHost[] {
  const [only] = chosen;
  if (hostname === undefined || only === undefined) return chosen;
  if (chosen.length > 1)
    throw new SlipwayError('invalid', '--hostname is the address of one host.', {
      next: 'Name one host: slipway deploy web1 --hostname 10.0.0.5',
    });
  const { address, port } = parseSshTarget(hostname);
  const moved = { address: only.target.address, port: only.target.port };
  const ownPort = /:\d+$/.test(hostname) ? port : only.target.port;
  return [{ ...only, moved, target: { ...only.target, address, port: ownPort } }];
}

function chooseFromFleet({ hosts, config: fleet }: FleetFacts, { flake, wanted, on }: Wanted): ChosenHost[] {
  const all = [...hosts].map(([name, config]) => ({
    name,
    node: name,
    target: sshTargetOf(name, config),
    health: config.health,
    reboot: config.reboot ?? DEFAULT_REBOOT,
    flake,
    tags: config.tags,
    wave: config.wave,
    hooks: config.hooks,
    fleetHooks: fleet.deploy.hooks,
  }));
  if (on !== undefined) return selectFrom(all, on);
  if (wanted.length === 0) {
    const push = pushHosts(hosts);
    return all.filter(({ name }) => push.includes(name));
  }
  return wanted.map(({ node = '' }) => {
    const found = all.find(({ name }) => name === node);
    if (found === undefined) throw unknownHost(node, [...hosts.keys()]);
    return found;
  });
}

interface Wanted {
  readonly flake: string;
  readonly wanted: readonly Pick<DeployTargetName, 'node' | 'profile'>[];
  readonly on: string | undefined;
}

function selectFrom(all: readonly ChosenHost[], on: string | undefined): ChosenHost[] {
  if (on === undefined) return [...all];
  const members = all.map((host) => ({ host, name: host.node, tags: host.tags }));
  return selectMembers(members, on).map(({ host }) => host);
}

/** To deploy: each profile by itself. To reach a machine: its system profile, or the only way that there is. */
function chooseProfiles(
  jobs: readonly DeployRsJob[],
  {
    flake,
    paths,
    wanted,
  }: { readonly flake: string; readonly paths: boolean; readonly wanted: Wanted['wanted'] },
): ChosenHost[] {
  const chosen = jobs.map((deployRs) => profileHost(flake, deployRs));
  if (paths) return chosen;
  const asked = (node: string): string | undefined => wanted.find((one) => one.node === node)?.profile;
  return [...Map.groupBy(chosen, ({ node }) => node)].flatMap(([node, profiles]) => {
    const one =
      profiles.find(({ deployRs }) => deployRs?.plan.profile === (asked(node) ?? 'system')) ?? profiles[0];
    return one === undefined ? [] : [{ ...one, name: node }];
  });
}

function profileHost(flake: string, deployRs: DeployRsJob): ChosenHost {
  const { node, profile, address, sshUser, sshOpts, sudo, target } = deployRs.plan;
  return {
    name: isSystemProfile(target) ? node : `${node}.${profile}`,
    node,
    target: {
      name: node,
      address,
      user: sshUser,
      port: undefined,
      options: sshOpts,
      hostKeys: [],
      ...(sudo !== undefined && { sudo: [...sudo, 'root'] }),
    },
    health: healthConfig.parse({}),
    reboot: 'later', // deploy-rs never reboots a host
    flake,
    ...NOTHING_SAID,
    deployRs,
  };
}

/** What only a `slipway` output says. */
const NOTHING_SAID = { tags: [], wave: 1, hooks: NO_HOOKS, fleetHooks: NO_HOOKS };

/** Opens the connection to a chosen host. */
export async function openChosenHost(host: ChosenHost, options: HostOptions, io: CliIo): Promise<Host> {
  return await openSshHost(host.target, {
    signal: io.signal,
    sudoPassword: sudoPasswordOf(options, io, host.deployRs?.plan.interactiveSudo),
  });
}

function chooseByAddress(names: readonly string[], address: string, hostKey: string | undefined): ChosenHost {
  const target = parseSshTarget(address, names[0]);
  const hostKeys = hostKey === undefined ? [] : [hostKey];
  const health = healthConfig.parse({});
  const { name } = target;
  const common = { health, reboot: DEFAULT_REBOOT, flake: undefined, ...NOTHING_SAID };
  return { name, node: name, target: { ...target, hostKeys }, ...common };
}

/** `.#web1` names the flake and the host at once, as in deploy-rs. */
function splitNames(names: readonly string[], given: string | undefined): Omit<Wanted, 'on'> {
  let flake = given;
  const wanted = names.map((name) => {
    if (!/[#/:]|^\.+$/.test(name)) return parseFragment(name);
    const { flake: named, node, profile } = parseDeployTarget(name);
    const reference = named || '.';
    if (flake !== undefined && flake !== reference)
      throw new SlipwayError('invalid', `"${name}" is in another flake than ${flake}.`, {
        next: 'Deploy the hosts of one flake at a time.',
      });
    flake = reference;
    return { node, profile };
  });
  return { flake: flake ?? '.', wanted: wanted.filter(({ node }) => node !== undefined) };
}

function pushHosts(hosts: ReadonlyMap<string, HostConfig>): string[] {
  const names = [...hosts].filter(([, config]) => config.mode === 'push').map(([name]) => name);
  if (names.length > 0) return names;
  throw new SlipwayError('invalid', 'No host of this flake has mode "push".', {
    next: `Name the hosts: slipway deploy ${[...hosts.keys()].slice(0, 3).join(' ')}`,
  });
}

function unknownHost(name: string, known: readonly string[]): SlipwayError {
  const near = findNearest(name, known);
  const guess = near === undefined ? '' : ` Did you mean ${near}?`;
  return new SlipwayError('not_found', `The flake has no host ${name}.${guess}`, {
    next: `There are: ${known.join(', ')}.`,
  });
}
