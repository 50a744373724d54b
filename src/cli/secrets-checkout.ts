// What the secrets commands look at: the commit that is checked out, the fleet that its flake describes, which secrets
// each host uses, and the release before it. Reads git objects and evaluates; needs no private key.
import { readLocalRepository } from '../effects/git.ts';
import { findObject } from '../effects/git-tree.ts';
import { openNix, type Nix } from '../effects/nix-cli.ts';
import { defaultEvaluationLimits, evaluateHosts, type HostResult } from '../pipeline/evaluate-hosts.ts';
import { explainFlake } from '../pipeline/flake-failure.ts';
import type { FleetFacts } from '../pipeline/fleet-facts.ts';
import { readFleet } from '../pipeline/read-fleet.ts';
import type { FlakeSource } from '../pipeline/flake-source.ts';
import { openGitTree } from '../pipeline/git-source-tree.ts';
import { parseSourceHostFacts, sourceHostExpression, type SourceHostFacts } from '../pipeline/host-facts.ts';
import { planFleetSecrets } from '../pipeline/plan-fleet-secrets.ts';
import type { SecretsPlan } from '../secrets/plan-secrets.ts';
import type { SourceTree } from '../secrets/source-tree.ts';
import { SlipwayError } from '../util/errors.ts';

export interface Checkout {
  readonly gitDirectory: string;
  readonly workTree: string | undefined;
  readonly commit: string;
  readonly fleet: FleetFacts;
  readonly source: SourceTree;
  readonly nix: Nix;
  readonly flake: FlakeSource;
}

export interface CheckoutPlan {
  readonly plan: SecretsPlan;
  readonly previous: SourceTree | undefined;
  /** Hosts that could not be evaluated, with the reason. */
  readonly failed: Readonly<Record<string, string>>;
}

/** Opens the repository around `path` at the commit that is checked out. */
export async function openCheckout(path: string, signal: AbortSignal): Promise<Checkout> {
  const repository = await readLocalRepository(path);
  const { gitDirectory, workTree, branch } = repository;
  const commit = await findObject(gitDirectory, 'HEAD^{commit}');
  if (commit === undefined) throw noCommit(path);
  const nix = openNix();
  const ref = branch === undefined ? 'HEAD' : `refs/heads/${branch}`;
  const flake = { mirror: gitDirectory, ref, commit };
  const fleet = await readFleet(nix, flake, { signal }).catch((error: unknown) => {
    throw explainFlake(error);
  });
  const source = await openGitTree(gitDirectory, commit);
  return { gitDirectory, workTree, commit, fleet, source, nix, flake };
}

/** Evaluates every host and plans what a release of this commit would do with the secrets. */
export async function planCheckout(
  checkout: Checkout,
  release: string | undefined,
  signal: AbortSignal,
): Promise<CheckoutPlan> {
  const results = await evaluateCheckout(checkout, signal);
  const found = await findReleaseCommit(checkout, release);
  const previous = found === undefined ? undefined : await openGitTree(checkout.gitDirectory, found);
  const plan = await planFleetSecrets({
    fleet: checkout.fleet,
    results,
    source: checkout.source,
    repository: checkout.gitDirectory,
    commit: checkout.commit,
    ...(previous && found !== undefined && { previous: { tree: previous, commit: found } }),
  });
  const failed = results.flatMap((result) =>
    result.ok ? [] : [[result.host, result.error.message] as const],
  );
  return { plan, previous, failed: Object.fromEntries(failed) };
}

/** The tree of the release branch as this repository knows it: the local branch, or else origin's. */
export async function findRelease(
  checkout: Checkout,
  release: string | undefined,
): Promise<SourceTree | undefined> {
  const commit = await findReleaseCommit(checkout, release);
  return commit === undefined ? undefined : await openGitTree(checkout.gitDirectory, commit);
}

/** The commit behind `findRelease`. */
export async function findReleaseCommit(
  checkout: Checkout,
  release: string | undefined,
): Promise<string | undefined> {
  const { branch } = checkout.fleet.config.release;
  const names = release === undefined ? [`refs/heads/${branch}`, `refs/remotes/origin/${branch}`] : [release];
  for (const name of names) {
    const commit = await findObject(checkout.gitDirectory, `${name}^{commit}`);
    if (commit !== undefined) return commit;
  }
  if (release === undefined) return undefined;
  throw new SlipwayError('not_found', `This repository has no commit called ${release}.`, {
    next: 'Fetch it first: git fetch origin',
  });
}

async function evaluateCheckout(
  checkout: Checkout,
  signal: AbortSignal,
): Promise<HostResult<SourceHostFacts>[]> {
  const { fleet, flake, nix } = checkout;
  return await evaluateHosts(nix, [...fleet.hosts.keys()], {
    expression: (host) => sourceHostExpression(flake, host),
    parse: parseSourceHostFacts,
    onStart: () => undefined,
    onResult: () => undefined,
    limits: defaultEvaluationLimits(),
    signal,
  });
}

function noCommit(path: string): SlipwayError {
  return new SlipwayError('repository_unusable', `${path} has no commit yet.`, {
    next: 'Commit the flake first: Slipway looks at commits, as hosts do.',
  });
}
