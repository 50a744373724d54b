// The gates of ../facts/secrets.md D8 before a release with secrets is published: every file opens for exactly its
// recipients, and what the release's own evaluation uses is covered. That the re-key identity can read nothing of it was
// tried by the child that made the files; the hashes in the record tie that proof to the files in the tree.
import { publicKeys } from '../api/fleet-config.ts';
import type { RekeyOutcome } from '../secrets/apply-rekey.ts';
import { assertNoProblems } from '../secrets/secret-problem.ts';
import { findSecretUses } from '../secrets/secret-uses.ts';
import { sha256Hex, type SourceTree } from '../secrets/source-tree.ts';
import { verifyRelease } from '../secrets/verify-release.ts';
import type { HostResult } from './evaluate-hosts.ts';
import type { FleetFacts } from './fleet-facts.ts';
import { openGitTree } from './git-source-tree.ts';
import type { HostFacts } from './host-facts.ts';

export interface VerifyRequest {
  readonly mirror: string;
  readonly fleet: FleetFacts;
  readonly release: string;
  readonly results: readonly HostResult<HostFacts>[];
  readonly secrets: RekeyOutcome | undefined;
}

/** Throws `secrets_failed` with everything that is wrong. */
export async function verifySecrets(request: VerifyRequest): Promise<void> {
  const used = request.results.some((result) => result.ok && Object.keys(result.value.secrets).length > 0);
  if (!used && request.secrets === undefined) return;
  const tree = await openGitTree(request.mirror, request.release);
  const { config, hosts } = request.fleet;
  const found = await findReleaseUses(request, tree);
  const wrong = await verifyRelease({
    tree,
    hostKeys: Object.fromEntries([...hosts].map(([host, settings]) => [host, publicKeys(settings)])),
    editors: config.secrets.editors,
    uses: found.uses,
    evaluated: new Set(request.results.flatMap((result) => (result.ok ? [result.host] : []))),
  });
  assertNoProblems([...found.problems, ...wrong]);
}

async function findReleaseUses(
  request: VerifyRequest,
  tree: SourceTree,
): Promise<ReturnType<typeof findSecretUses>> {
  const evaluated = request.results.flatMap((result) => (result.ok ? [result] : []));
  const recorded = request.secrets?.record.secrets ?? [];
  const files = await tree.read(recorded.map(({ path }) => path));
  const hashes = recorded.flatMap(({ path }, index): [string, string][] => {
    const file = files[index];
    return file === undefined ? [] : [[path, sha256Hex(file)]];
  });
  return findSecretUses({
    hosts: Object.fromEntries(evaluated.map(({ host, value }) => [host, value.secrets])),
    sourceRoot: evaluated[0]?.value.sourceRoot ?? '',
    hashes: new Map(hashes),
    paths: new Set(tree.paths),
    unmanaged: request.fleet.config.secrets.unmanaged,
  });
}
