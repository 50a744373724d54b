// Which profiles a deploy-rs flake wants where, in order, with all settings merged. Pure. The rules are deploy-rs':
// command line over profile over node over the output; `sshOpts` are appended, profile's first.
import type { DeployRsGeneric, DeployRsNode, DeployRsOutput } from '../api/deploy-rs.ts';
import { SlipwayError } from '../util/errors.ts';
import type { DeployRequest, ProfileTarget } from './deploy-request.ts';

/** Settings from the command line; `hostname` and `sshOpts` replace what the flake says. */
export type DeployRsOverrides = DeployRsGeneric & { readonly hostname?: string | undefined };

export interface DeployRsProfilePlan {
  readonly node: string;
  readonly profile: string;
  readonly address: string;
  readonly sshUser: string;
  readonly sshOpts: readonly string[];
  /** Store path of the package, as the flake has it; for a NixOS system a wrapper around the toplevel. */
  readonly path: string;
  /** Undefined: the system profile, if the package turns out to be a NixOS system. */
  readonly target: ProfileTarget;
  readonly confirm: boolean;
  readonly autoRollback: boolean;
  readonly timeouts: NonNullable<DeployRequest['timeouts']>;
  readonly source: 'push' | 'push-and-substitute';
  readonly remoteBuild: boolean;
  /** How the login becomes root: a word list, e.g. `sudo -u`, without the user. */
  readonly sudo: readonly string[] | undefined;
  readonly interactiveSudo: boolean;
}

export interface DeployRsContext {
  /** The local login, deploy-rs' default for `sshUser`. */
  readonly login: string;
  readonly overrides: DeployRsOverrides;
  /** All profile names of each node, also of those that were not evaluated. */
  readonly names: Readonly<Record<string, readonly string[]>>;
}

/** Nodes by name, each node's profiles in `profilesOrder`, then the others by name. */
export function planFromDeployRs(output: DeployRsOutput, context: DeployRsContext): DeployRsProfilePlan[] {
  return Object.entries(output.nodes).flatMap(([name, node]) =>
    orderProfiles(name, node, context.names[name] ?? Object.keys(node.profiles)).map((profile) =>
      planProfile(output, { name, node, profile }, context),
    ),
  );
}

function orderProfiles(name: string, node: DeployRsNode, known: readonly string[]): string[] {
  const order = node.profilesOrder ?? [];
  const where = `deploy.nodes.${name}.profilesOrder`;
  order.forEach((profile, index) => {
    if (order.indexOf(profile) !== index) throw malformed(where, `names ${profile} twice`);
    if (!known.includes(profile)) throw malformed(where, `names ${profile}, which the node does not have`);
  });
  const rest = Object.keys(node.profiles).filter((profile) => !order.includes(profile));
  return [...order.filter((profile) => profile in node.profiles), ...rest.toSorted()];
}

function planProfile(
  output: DeployRsOutput,
  which: { readonly name: string; readonly node: DeployRsNode; readonly profile: string },
  { login, overrides }: DeployRsContext,
): DeployRsProfilePlan {
  const { name, node, profile } = which;
  const own = node.profiles[profile];
  if (own === undefined) throw malformed(`deploy.nodes.${name}.profiles`, `has no ${profile}`);
  const levels = [overrides, own, node, output];
  const setting = <K extends keyof DeployRsGeneric>(key: K): DeployRsGeneric[K] =>
    levels.map((level) => level[key]).find((value) => value !== undefined && value !== null);
  return {
    node: name,
    profile,
    address: overrides.hostname ?? node.hostname,
    path: own.path,
    sshOpts: overrides.sshOpts ?? [own, node, output].flatMap((level) => level.sshOpts ?? []),
    target: { profile: own.profilePath ?? profile, user: ownerOf(setting, `${name}.profiles.${profile}`) },
    ...loginOf(setting, login),
    ...behaviourOf(setting),
  };
}

type Setting = <K extends keyof DeployRsGeneric>(key: K) => DeployRsGeneric[K];

function ownerOf(setting: Setting, where: string): string {
  const user = setting('user') ?? setting('sshUser');
  if (user !== undefined && user !== null) return user;
  throw malformed(`deploy.nodes.${where}`, 'has neither user nor sshUser, so nobody owns it');
}

function loginOf(
  setting: Setting,
  login: string,
): Pick<DeployRsProfilePlan, 'sshUser' | 'sudo' | 'interactiveSudo'> {
  const sudo = setting('sudo')?.split(' ');
  return {
    sshUser: setting('sshUser') ?? login,
    sudo: sudo?.filter((word) => word !== ''),
    interactiveSudo: setting('interactiveSudo') ?? false,
  };
}

function behaviourOf(
  setting: Setting,
): Pick<DeployRsProfilePlan, 'confirm' | 'autoRollback' | 'timeouts' | 'source' | 'remoteBuild'> {
  return {
    confirm: setting('magicRollback') ?? true,
    autoRollback: setting('autoRollback') ?? true,
    timeouts: {
      ...atLeastOne('activation', setting('activationTimeout')),
      ...atLeastOne('confirm', setting('confirmTimeout')),
    },
    source: setting('fastConnection') === true ? 'push' : 'push-and-substitute',
    remoteBuild: setting('remoteBuild') ?? false,
  };
}

/** 0 seconds would mean: no chance at all. */
function atLeastOne(key: 'activation' | 'confirm', value: number | null | undefined): Record<string, number> {
  return value === undefined || value === null ? {} : { [key]: Math.max(1, value) };
}

const SYSTEM_LINK = '/nix/var/nix/profiles/system';

/** Whether this is the profile that a NixOS host boots. */
export function isSystemProfile({ profile, user }: ProfileTarget): boolean {
  return profile === SYSTEM_LINK || (profile === 'system' && user === 'root');
}

function malformed(where: string, what: string): SlipwayError {
  return new SlipwayError('invalid', `${where} ${what}.`, {
    next: `Correct it in flake.nix, then look at it with: nix eval --json .#${where}`,
    facts: { where },
  });
}
