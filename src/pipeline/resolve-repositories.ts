// From what a person names (`--repository`, `--remote`) to where the source is read and releases are published.
// A working tree publishes to its `origin`; a bare repository and a URL publish to themselves.
import { assertClean, type LocalRepository, readLocalRepository } from '../effects/git.ts';
import { type GitAccess, type GitRemote, parseGitRemote } from '../effects/git-remote.ts';
import { SlipwayError } from '../util/errors.ts';

export interface RepositoryRequest {
  /** Path or URL. */
  readonly repository: string;
  /** Path or URL, or the default. */
  readonly remote?: string;
  readonly sourceBranch?: string;
  readonly access?: GitAccess;
  readonly allowDirty?: boolean;
}

export interface Repositories {
  readonly source: GitRemote;
  readonly remote: GitRemote;
  /** `HEAD` when a detached checkout is released and no branch was named. */
  readonly sourceBranch: string;
}

export async function resolveRepositories(request: RepositoryRequest): Promise<Repositories> {
  const access = request.access ?? {};
  const named = parseGitRemote(request.repository, access);
  const given = request.remote === undefined ? undefined : parseGitRemote(request.remote, access);
  if (named.kind !== 'local')
    return { source: named, remote: given ?? named, sourceBranch: request.sourceBranch ?? 'main' };
  const local = await readLocalRepository(named.url);
  const sourceBranch = request.sourceBranch ?? checkedOutBranch(local);
  await assertUsable(named.url, local, sourceBranch, request.allowDirty === true);
  const source = { ...named, url: local.workTree ?? local.gitDirectory };
  const origin = local.originUrl === undefined ? undefined : parseGitRemote(local.originUrl, access);
  return { source, remote: given ?? origin ?? source, sourceBranch };
}

/** A bare repository's HEAD may name a branch that nobody pushed; `main` is then the better guess. */
function checkedOutBranch(local: LocalRepository): string {
  if (local.workTree === undefined && local.head === undefined) return 'main';
  return local.branch ?? 'HEAD';
}

async function assertUsable(
  path: string,
  local: LocalRepository,
  branch: string,
  allowDirty: boolean,
): Promise<void> {
  if (local.shallow)
    throw new SlipwayError('repository_unusable', `${path} is a shallow clone: its history is cut off.`, {
      next: 'Fetch it whole (git fetch --unshallow; GitHub: fetch-depth: 0; GitLab: GIT_DEPTH: "0"), or give the URL.',
    });
  if (local.workTree === undefined || (branch !== 'HEAD' && branch !== local.branch)) return;
  if (local.head === undefined)
    throw new SlipwayError('repository_unusable', `${path} has no commit yet.`, {
      next: 'Commit the flake: a release is made from a commit.',
    });
  if (!allowDirty) await assertClean(local.workTree);
}
