// A flake's `deploy` output (deploy-rs): evaluated for the wanted nodes and profiles only, then planned.
import { userInfo } from 'node:os';
import * as z from 'zod/mini';
import { DEPLOY_RS_SETTINGS, deployRsOutput } from '../api/deploy-rs.ts';
import { formatIssue } from '../api/issue-text.ts';
import type { DeployTargetName } from '../deploy/parse-deploy-target.ts';
import {
  type DeployRsOverrides,
  type DeployRsProfilePlan,
  planFromDeployRs,
} from '../deploy/plan-from-deploy-rs.ts';
import { SlipwayError } from '../util/errors.ts';
import { findNearest } from '../util/nearest.ts';
import { type Evaluation, evaluateAttribute } from './flake-evaluation.ts';

export interface DeployRsJob {
  readonly plan: DeployRsProfilePlan;
  /** What to build for its path; empty: the path is there already. */
  readonly derivations: readonly string[];
}

export interface DeployRsQuestion extends Omit<Evaluation, 'attribute' | 'apply'> {
  /** Empty: all of them. */
  readonly wanted: readonly Pick<DeployTargetName, 'node' | 'profile'>[];
  readonly overrides: DeployRsOverrides;
  /** False leaves the profiles' paths unevaluated: for commands that only need addresses. */
  readonly paths: boolean;
}

/** Undefined when the flake has no `deploy` output. */
export async function readDeployRs(question: DeployRsQuestion): Promise<DeployRsJob[] | undefined> {
  const { wanted, overrides, paths, ...evaluation } = question;
  const apply = selectExpression(wanted, paths);
  const value = await evaluateAttribute({ ...evaluation, attribute: 'deploy', apply });
  if (value === undefined) return undefined;
  const { names, derivations, deploy } = answer.parse(value);
  for (const one of wanted) assertKnown(one, names);
  const parsed = deployRsOutput.safeParse(deploy);
  if (!parsed.success) throw malformed(question.flake, parsed.error.issues.map(describeIssue));
  const plans = planFromDeployRs(parsed.data, { login: userInfo().username, overrides, names });
  return plans.map((plan) => ({ plan, derivations: derivations[plan.node]?.[plan.profile] ?? [] }));
}

const answer = z.object({
  names: z.record(z.string(), z.array(z.string())),
  derivations: z.record(z.string(), z.record(z.string(), z.array(z.string()))),
  deploy: z.unknown(),
});

/** Stands for a path that was not evaluated. */
const NO_PATH = '/nix/store/00000000000000000000000000000000-not-evaluated';

/**
 * A function of the output. What has the wrong type passes as it is, for the schema to point at; only wanted paths are
 * forced, and their derivations named, because a plain string cannot be built otherwise.
 */
function selectExpression(wanted: DeployRsQuestion['wanted'], paths: boolean): string {
  const asked = wanted.map(({ node, profile }) => ({ node, profile: profile ?? null }));
  const keys = (more: readonly string[]): string => nixJson([...DEPLOY_RS_SETTINGS, ...more]);
  const path = paths
    ? 'if builtins.isString p.path || builtins.isPath p.path || p.path ? outPath then toString p.path else p.path'
    : nixJson(NO_PATH);
  return `deploy: let
    asked = ${nixJson(asked)};
    isAsked = n: p: asked == [ ] || builtins.any (a: a.node == n && (a.profile == null || a.profile == p)) asked;
    isAskedNode = n: asked == [ ] || builtins.any (a: a.node == n) asked;
    set = f: x: if builtins.isAttrs x then f x else x;
    attrs = x: if builtins.isAttrs x then x else { };
    pick = keys: x: builtins.intersectAttrs (builtins.listToAttrs (map (name: { inherit name; value = null; }) keys)) x;
    filter = keep: x: builtins.removeAttrs x (builtins.filter (n: !(keep n)) (builtins.attrNames x));
    pathOf = p: if p ? path then { path = ${path}; } else { };
    profileOf = set (p: pick ${keys(['profilePath'])} p // pathOf p);
    nodeOf = n: set (node: pick ${keys(['hostname', 'profilesOrder'])} node // {
      profiles = set (ps: builtins.mapAttrs (_: profileOf) (filter (isAsked n) ps)) (node.profiles or { });
    });
    nodes = deploy.nodes or { };
    wantedProfiles = n: node: filter (isAsked n) (attrs ((attrs node).profiles or { }));
    sources = p: let path = (pathOf p).path or null; in
      if ${paths ? 'builtins.isString path' : 'false'}
      then builtins.filter (d: builtins.match ".*[.]drv" d != null) (builtins.attrNames (builtins.getContext path))
      else [ ];
  in {
    names = builtins.mapAttrs (_: node: builtins.attrNames (attrs ((attrs node).profiles or { }))) (attrs nodes);
    derivations = builtins.mapAttrs
      (n: node: builtins.mapAttrs (_: p: sources (attrs p)) (wantedProfiles n node)) (filter isAskedNode (attrs nodes));
    deploy = if builtins.isAttrs deploy
      then pick ${keys([])} deploy // { nodes = set (ns: builtins.mapAttrs nodeOf (filter isAskedNode ns)) nodes; }
      else deploy;
  }`;
}

function nixJson(value: unknown): string {
  const text = JSON.stringify(JSON.stringify(value)).replaceAll('${', String.raw`\${`);
  return `(builtins.fromJSON ${text})`;
}

function assertKnown(
  { node, profile }: Pick<DeployTargetName, 'node' | 'profile'>,
  names: Readonly<Record<string, readonly string[]>>,
): void {
  const profiles = names[node ?? ''];
  if (profiles === undefined) throw unknownName('node', node ?? '', Object.keys(names));
  if (profile !== undefined && !profiles.includes(profile)) throw unknownName('profile', profile, profiles);
}

function unknownName(what: string, name: string, known: readonly string[]): SlipwayError {
  const near = findNearest(name, known);
  const guess = near === undefined ? '' : ` Did you mean ${near}?`;
  return new SlipwayError('not_found', `The flake's "deploy" output has no ${what} ${name}.${guess}`, {
    next: `There are: ${known.join(', ')}.`,
  });
}

function describeIssue(issue: Parameters<typeof formatIssue>[0]): string {
  return `deploy.${formatIssue(issue)}`;
}

function malformed(flake: string, places: readonly string[]): SlipwayError {
  return new SlipwayError('invalid', `The flake's "deploy" output is not valid: ${places.join('; ')}.`, {
    next: `Correct it in flake.nix, then look at it with: nix eval --json ${flake}#deploy`,
    facts: { places },
  });
}
