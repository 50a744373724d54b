// The gates before a release with secrets is published: every file opens for exactly its
// recipients, and what the release's own evaluation uses is covered. That the re-key identity can read nothing of it was
// tried by the child that made the files; the hashes in the record tie that proof to the files in the tree.
import type { RekeyOutcome } from '../secrets/apply-rekey.ts';
import { assertNoProblems } from '../secrets/secret-problem.ts';
import type { HostSecrets } from '../secrets/host-secrets.ts';
import { findSecretUses } from '../secrets/secret-uses.ts';
import { sha256Hex, type SourceTree } from '../secrets/source-tree.ts';
import { verifyRelease } from '../secrets/verify-release.ts';
import type { HostResult } from './evaluate-hosts.ts';
import type { FleetFacts } from './fleet-facts.ts';
import { openGitTree } from './git-source-tree.ts';
import type { HostFacts } from './host-facts.ts';
import { readerKeys, secretReaders } from './secret-readers.ts';

export interface VerifyRequest {
  readonly mirror: string;
  readonly fleet: FleetFacts;
  readonly release: string;
  readonly results: readonly HostResult<HostFacts>[];
  readonly secrets: RekeyOutcome | undefined;
}

/** Throws `secrets_failed` with everything that is wrong. */
export async function verifySecrets(request: VerifyRequest): Promise<void> {
  const readers = evaluatedReaders(request);
  const used = Object.values(readers).some((secrets) => Object.keys(secrets).length > 0);
  if (!used && request.secrets === undefined) return;
  const tree = await openGitTree(request.mirror, request.release);
  const { config } = request.fleet;
  const found = await findReleaseUses(request, tree);
  const wrong = await verifyRelease({
    tree,
    hostKeys: readerKeys(request.fleet),
    editors: config.secrets.editors,
    uses: found.uses,
    evaluated: new Set(evaluatedNames(request, readers)),
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
    hosts: evaluatedReaders(request),
    sourceRoot: evaluated[0]?.value.sourceRoot ?? '',
    hashes: new Map(hashes),
    paths: new Set(tree.paths),
    unmanaged: request.fleet.config.secrets.unmanaged,
  });
}

/** The secrets of every host that evaluates, and of its users. */
function evaluatedReaders({ fleet, results }: VerifyRequest): Record<string, HostSecrets> {
  const readers = Object.entries(secretReaders(fleet, results));
  return Object.fromEntries(readers.flatMap(([name, { secrets }]) => (secrets ? [[name, secrets]] : [])));
}

/** Also users who use none any more: a file that is still encrypted to them is a fault. */
function evaluatedNames({ fleet, results }: VerifyRequest, readers: Record<string, HostSecrets>): string[] {
  const users = results.flatMap(({ host, ok }) =>
    ok ? Object.keys(fleet.hosts.get(host)?.users ?? {}).map((user) => `${user}@${host}`) : [],
  );
  return [...Object.keys(readers), ...users];
}
