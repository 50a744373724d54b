// Writes the release commit, published nowhere yet: its tree is the source's with re-keyed secrets, its parents are
// the previous release and (merged history) the source commit. So the branch only grows, and each says where it is from.
import { commitTree, isAncestor, readCommit, setRef } from '../effects/git-tree.ts';
import type { CommitSigning } from '../effects/git-signature.ts';
import type { FlakeSource } from './flake-source.ts';
import { ROLLBACK_FROM, ROLLBACK_TO, type Rollback } from './rollback-release.ts';

/** Constant, because Nix copies the ref into a cache of its own and never removes one; the run lock makes it safe. */
export const CANDIDATE_REF = 'refs/heads/slipway-candidate';

export interface ReleaseCommitFacts {
  readonly mirror: string;
  readonly tree: string;
  readonly source: string;
  readonly previous: string | undefined;
  /** The release that a testing release goes on top of. */
  readonly base: string | undefined;
  /** `detached`: the source is no parent, so whoever may fetch the releases does not get the source with them. */
  readonly history: 'merged' | 'detached';
  readonly rollback: Rollback | undefined;
  readonly signing: CommitSigning | undefined;
  readonly serial: number;
  readonly run: string;
  readonly at: Date;
}

/** Writes the commit and points the candidate ref at it, so that Nix can evaluate it. */
export async function writeReleaseCommit(facts: ReleaseCommitFacts): Promise<FlakeSource> {
  const source = await readCommit(facts.mirror, facts.source);
  const message = formatReleaseMessage(facts, source.subject, source.tree);
  const { mirror, tree, at, signing } = facts;
  const commit = await commitTree(mirror, { tree, parents: await listParents(facts), message, at, signing });
  await setRef(facts.mirror, CANDIDATE_REF, commit);
  return { mirror: facts.mirror, ref: CANDIDATE_REF, commit };
}

/** First the branch's own last commit, so that it only grows and `--first-parent` is the release history. */
async function listParents(facts: ReleaseCommitFacts): Promise<string[]> {
  const { previous, base, history } = facts;
  const behind = base !== undefined && base !== previous && !(await contains(facts.mirror, previous, base));
  return [
    ...(previous === undefined ? [] : [previous]),
    ...(behind ? [base] : []),
    ...(history === 'detached' ? [] : [facts.source]),
  ];
}

async function contains(mirror: string, tip: string | undefined, commit: string): Promise<boolean> {
  return tip !== undefined && (await isAncestor(mirror, commit, tip));
}

export function formatReleaseMessage(facts: ReleaseCommitFacts, subject: string, sourceTree: string): string {
  const { rollback } = facts;
  return [
    `Release ${facts.serial} (${facts.source.slice(0, 12)}): ${subject.slice(0, 120)}`,
    '',
    `Slipway-Source: ${facts.source}`,
    `Slipway-Source-Tree: ${sourceTree}`,
    `Slipway-Serial: ${facts.serial}`,
    `Slipway-Run: ${facts.run}`,
    ...(rollback ? [`${ROLLBACK_TO}: ${rollback.release}`, `${ROLLBACK_FROM}: ${rollback.from}`] : []),
    '',
  ].join('\n');
}
