// Brings the source and the published releases into the mirror, and says which commit is the source.
import { fetchBranches } from '../effects/git-mirror.ts';
import type { GitRemote } from '../effects/git-remote.ts';
import { findObject, isAncestor, setRef } from '../effects/git-tree.ts';
import { SlipwayError } from '../util/errors.ts';
import type { FlakeSource } from './flake-source.ts';
import type { RunOptions } from './run-options.ts';

export interface Fetched {
  readonly source: FlakeSource;
  /** Branches of the remote that releases are published to. */
  readonly tips: ReadonlyMap<string, string>;
}

const SOURCE_REF = 'refs/heads/slipway-source';

export async function fetchSource(
  mirror: string,
  options: RunOptions,
  signal: AbortSignal,
): Promise<Fetched> {
  const same = options.source.url === options.remote.url;
  const head = options.sourceBranch === 'HEAD';
  const name = same ? 'origin' : 'source';
  const branches = await fetchBranches(mirror, options.source, { name, head, signal });
  const tips = same ? branches : await fetchTips(mirror, options.remote, signal);
  return { source: await findSource(mirror, name, branches, options), tips };
}

/** The remote's branches as they are now: for the start of a run, and again after somebody else published. */
export async function fetchTips(
  mirror: string,
  remote: GitRemote,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  return await fetchBranches(mirror, remote, { name: 'origin', signal });
}

async function findSource(
  mirror: string,
  name: string,
  branches: ReadonlyMap<string, string>,
  options: RunOptions,
): Promise<FlakeSource> {
  const { sourceBranch, sourceCommit } = options;
  const tip = branches.get(sourceBranch);
  if (tip === undefined) throw unknownBranch(options, [...branches.keys()]);
  const ref = `refs/remotes/${name}/${sourceBranch}`;
  if (sourceCommit === undefined || sourceCommit === tip) return { mirror, ref, commit: tip };
  const commit = await findObject(mirror, `${sourceCommit}^{commit}`);
  if (commit === undefined || !(await isAncestor(mirror, commit, tip)))
    throw notOnBranch(options, sourceCommit);
  await setRef(mirror, SOURCE_REF, commit);
  return { mirror, ref: SOURCE_REF, commit };
}

function unknownBranch({ source, sourceBranch }: RunOptions, there: readonly string[]): SlipwayError {
  const known = there.filter((branch) => branch !== 'HEAD').slice(0, 10);
  const next =
    known.length === 0
      ? 'The repository has no branch: push a commit first.'
      : `Choose one with --source-branch; there are: ${known.join(', ')}.`;
  return new SlipwayError('repository_unusable', `${source.url} has no branch ${sourceBranch}.`, { next });
}

function notOnBranch({ source, sourceBranch }: RunOptions, commit: string): SlipwayError {
  return new SlipwayError(
    'repository_unusable',
    `The commit ${commit} is not on the branch ${sourceBranch} of ${source.url}.`,
    { next: 'Push it there first, or name the branch that has it with --source-branch.' },
  );
}
