// Writes the release commit, published nowhere yet: its tree is the source's with re-keyed secrets, its parents are
// the previous release and the source commit. So the branch only ever grows, and each release says where it is from.
import { commitTree, readCommit, setRef } from '../effects/git-tree.ts';
import type { FlakeSource } from './flake-source.ts';

/** Constant, because Nix copies the ref into a cache of its own and never removes one; the run lock makes it safe. */
export const CANDIDATE_REF = 'refs/heads/slipway-candidate';

export interface ReleaseCommitFacts {
  readonly mirror: string;
  readonly tree: string;
  readonly source: string;
  readonly previous: string | undefined;
  readonly serial: number;
  readonly run: string;
  readonly at: Date;
}

/** Writes the commit and points the candidate ref at it, so that Nix can evaluate it. */
export async function writeReleaseCommit(facts: ReleaseCommitFacts): Promise<FlakeSource> {
  const source = await readCommit(facts.mirror, facts.source);
  const parents = [...(facts.previous === undefined ? [] : [facts.previous]), facts.source];
  const message = formatReleaseMessage(facts, source.subject, source.tree);
  const commit = await commitTree(facts.mirror, { tree: facts.tree, parents, message, at: facts.at });
  await setRef(facts.mirror, CANDIDATE_REF, commit);
  return { mirror: facts.mirror, ref: CANDIDATE_REF, commit };
}

export function formatReleaseMessage(facts: ReleaseCommitFacts, subject: string, sourceTree: string): string {
  return [
    `Release ${facts.serial} (${facts.source.slice(0, 12)}): ${subject.slice(0, 120)}`,
    '',
    `Slipway-Source: ${facts.source}`,
    `Slipway-Source-Tree: ${sourceTree}`,
    `Slipway-Serial: ${facts.serial}`,
    `Slipway-Run: ${facts.run}`,
    '',
  ].join('\n');
}
