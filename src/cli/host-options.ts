// Which hosts a deploy command means, and how they are reached: hosts of a flake (`--flake`, `REF#host`), or one
// address by hand (`--host root@address`).
import type { Command } from 'commander';
import { type HealthConfig, healthConfig, type HostConfig } from '../api/fleet-config.ts';
import { openSshHost } from '../effects/ssh-host.ts';
import type { Host } from '../effects/host.ts';
import { parseSshTarget, type SshTarget, sshTargetOf } from '../effects/ssh-target.ts';
import { openNix } from '../effects/nix-cli.ts';
import { SlipwayError } from '../util/errors.ts';
import { readFlakeFleet } from './flake-fleet.ts';

export interface HostOptions {
  readonly flake?: string;
  readonly host?: string;
  readonly hostKey?: string;
  readonly json?: boolean;
}

/** A host that a command acts on. */
export interface ChosenHost {
  readonly name: string;
  readonly target: SshTarget;
  readonly health: HealthConfig;
  /** Undefined for `--host`: there is no flake to build from. */
  readonly flake: string | undefined;
}

export function addHostOptions(command: Command): Command {
  return command
    .option('--flake <ref>', 'the flake that describes the hosts (default: .)')
    .option('--host <destination>', 'one host by address, as root@address or root@address:port')
    .option('--host-key <key>', 'with --host: the ssh public key that it must show')
    .option('--json', 'print one JSON object');
}

/** The hosts that the names mean; without names, all push-mode hosts of the flake. */
export async function chooseHosts(
  names: readonly string[],
  options: HostOptions,
  cwd: string,
  signal: AbortSignal,
): Promise<ChosenHost[]> {
  if (options.host !== undefined) return [chooseByAddress(names, options.host, options.hostKey)];
  const { flake, wanted } = splitNames(names, options.flake);
  const { hosts } = await readFlakeFleet(openNix(), flake, cwd, signal);
  const chosen = wanted.length > 0 ? wanted : pushHosts(hosts);
  return chosen.map((name) => {
    const config = hosts.get(name);
    if (config === undefined) throw unknownHost(name, [...hosts.keys()]);
    return { name, target: sshTargetOf(name, config), health: config.health, flake };
  });
}

/** Opens the connection to a chosen host. */
export async function openChosenHost(host: ChosenHost, signal: AbortSignal): Promise<Host> {
  return await openSshHost(host.target, signal);
}

function chooseByAddress(names: readonly string[], address: string, hostKey: string | undefined): ChosenHost {
  const target = parseSshTarget(address, names[0]);
  const hostKeys = hostKey === undefined ? [] : [hostKey];
  const health = healthConfig.parse({});
  return { name: target.name, target: { ...target, hostKeys }, health, flake: undefined };
}

/** `.#web1` names the flake and the host at once, as in deploy-rs. */
function splitNames(
  names: readonly string[],
  given: string | undefined,
): { readonly flake: string; readonly wanted: readonly string[] } {
  let flake = given;
  const wanted = names.map((name) => {
    const at = name.indexOf('#');
    if (at < 0) return name;
    const reference = name.slice(0, at) || '.';
    if (flake !== undefined && flake !== reference)
      throw new SlipwayError('invalid', `"${name}" is in another flake than ${flake}.`, {
        next: 'Deploy the hosts of one flake at a time.',
      });
    flake = reference;
    return name.slice(at + 1);
  });
  return { flake: flake ?? '.', wanted: wanted.filter((name) => name !== '') };
}

function pushHosts(hosts: ReadonlyMap<string, HostConfig>): string[] {
  const names = [...hosts].filter(([, config]) => config.mode === 'push').map(([name]) => name);
  if (names.length > 0) return names;
  throw new SlipwayError('invalid', 'No host of this flake has mode "push".', {
    next: `Name the hosts: slipway deploy ${[...hosts.keys()].slice(0, 3).join(' ')}`,
  });
}

function unknownHost(name: string, known: readonly string[]): SlipwayError {
  const near = known.find((other) => other.startsWith(name.slice(0, 3)));
  const guess = near === undefined ? '' : ` Did you mean ${near}?`;
  return new SlipwayError('not_found', `The flake has no host ${name}.${guess}`, {
    next: `There are: ${known.join(', ')}.`,
  });
}
