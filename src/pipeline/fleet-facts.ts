// What the flake says about the fleet: which hosts exist (`nixosConfigurations`) and how they want to be treated
// (`slipway`, else deploy-rs' `deploy.nodes`, else mode manual for all). Parsed here, once; the rest trusts the types.
import * as z from 'zod/mini';
import { type FleetConfig, fleetConfig, hostConfig, type HostConfig, hostName } from '../api/fleet-config.ts';
import { formatIssue } from '../api/issue-text.ts';
import { SlipwayError } from '../util/errors.ts';
import { joinHooks } from '../deploy/hook-plan.ts';
import { RULES_PATHS } from '../secrets/secrets-rules.ts';
import { type FlakeSource, formatFlakeExpression, formatNixString } from './flake-source.ts';

export interface FleetFacts {
  readonly config: FleetConfig;
  /** Every host of `nixosConfigurations`, sorted by name, with its settings. */
  readonly hosts: ReadonlyMap<string, HostConfig>;
  /** Store path of the source, where Nix sees the repository's root. */
  readonly sourceRoot: string;
  /** agenix' rules file in the source, when it has to say who the editors are because the flake does not. */
  readonly rules: string | undefined;
}

/** The expression whose value `parseFleetFacts` reads. It forces no host. */
export function fleetExpression(source: FlakeSource): string {
  return `let
    flake = ${formatFlakeExpression(source)};
    nodes = (flake.deploy or { }).nodes or { };
    named = ((flake.slipway or { }).secrets or { }).editors or [ ];
    hasRules = file: builtins.pathExists (flake.sourceInfo.outPath + "/\${file}");
  in {
    rules = if named != [ ] then [ ] else builtins.filter hasRules [ ${RULES_PATHS.map(formatNixString).join(' ')} ];
    sourceRoot = builtins.unsafeDiscardStringContext (toString flake.sourceInfo.outPath);
    hosts = builtins.attrNames (flake.nixosConfigurations or { });
    slipway = flake.slipway or null;
    nodes = if flake ? slipway then { } else builtins.mapAttrs
      (_: node: { hostname = node.hostname or null; user = node.sshUser or null; }) nodes;
  }`;
}

function parseRaw(value: unknown): z.infer<typeof rawFacts> {
  const parsed = rawFacts.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new SlipwayError('invalid', `The flake does not fit: ${formatIssue(parsed.error.issues[0])}.`);
}

/** Reads the flake's answer; a mistake in it is `invalid` and says where it is. */
export function parseFleetFacts(value: unknown): FleetFacts {
  const facts = parseRaw(value);
  const config = facts.slipway === null ? fromDeployNodes(facts) : parseConfig(facts.slipway);
  const names = facts.hosts.toSorted();
  if (names.length === 0) throw noHosts();
  for (const name of names) assertHostName(name);
  const unknown = Object.keys(config.hosts).find((name) => !names.includes(name));
  if (unknown !== undefined) throw unknownHost(unknown, names);
  const defaults = hostConfig.parse({});
  const withFleetHooks = (host: HostConfig): HostConfig => ({
    ...host,
    hooks: joinHooks(config.deploy.hooks, host.hooks),
  });
  const { sourceRoot, rules } = facts;
  return {
    config,
    sourceRoot,
    rules: rules[0],
    hosts: new Map(names.map((name) => [name, withFleetHooks(config.hosts[name] ?? defaults)])),
  };
}

const rawFacts = z.object({
  sourceRoot: z._default(z.string(), ''),
  hosts: z.array(z.string()),
  slipway: z.unknown(),
  rules: z._default(z.array(z.string()), []),
  nodes: z.record(z.string(), z.object({ hostname: z.nullable(z.string()), user: z.nullable(z.string()) })),
});

function parseConfig(value: unknown): FleetConfig {
  const parsed = fleetConfig.safeParse(value);
  if (parsed.success) return parsed.data;
  const places = parsed.error.issues.map(formatIssue);
  throw new SlipwayError('invalid', `The flake's "slipway" output is not valid: ${places.join('; ')}.`, {
    next: 'Correct it in flake.nix, then look at it with: nix eval --json .#slipway',
    facts: { places },
  });
}

/** A deploy-rs fleet: its nodes are pushed to; hosts without a node stay manual. */
function fromDeployNodes(facts: z.infer<typeof rawFacts>): FleetConfig {
  const nodes = Object.entries(facts.nodes).filter(([name]) => facts.hosts.includes(name));
  const hosts = nodes.map(([name, { hostname, user }]) => [
    name,
    {
      mode: 'push',
      ...(hostname !== null && { targetHost: hostname }),
      ...(user !== null && { targetUser: user }),
    },
  ]);
  return parseConfig({ hosts: Object.fromEntries(hosts) });
}

function assertHostName(name: string): void {
  if (hostName.safeParse(name).success) return;
  throw new SlipwayError(
    'invalid',
    `nixosConfigurations.${JSON.stringify(name)} is not a usable host name.`,
    {
      next: 'Use letters, digits, "-" and "_", at most 63, beginning with a letter or digit.',
    },
  );
}

function noHosts(): SlipwayError {
  return new SlipwayError(
    'invalid',
    'The flake has no nixosConfigurations, so there is nothing to release.',
    {
      next: 'Add nixosConfigurations.<host> to the outputs of flake.nix.',
    },
  );
}

function unknownHost(name: string, known: readonly string[]): SlipwayError {
  return new SlipwayError('invalid', `slipway.hosts.${name} is not one of the flake's nixosConfigurations.`, {
    next: `Correct the name or remove it; there are: ${known.join(', ')}.`,
    facts: { host: name },
  });
}
