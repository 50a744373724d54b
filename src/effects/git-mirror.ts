// A private bare repository that mirrors branches of remotes: the only place where Slipway writes objects before it
// publishes them. It is a cache: deleting it costs one fetch. Branch `b` of the remote `name` is
// refs/remotes/<name>/<b>; unpublished release commits are local branches.
import { existsSync } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SlipwayError } from '../util/errors.ts';
import type { ExecResult } from './exec.ts';
import { assertAbsolute, assertPlain, gitFailed, gitText, lastWords, runGit } from './git-command.ts';
import { connectionFailed, type GitRemote, openGitConnection } from './git-remote.ts';

export interface FetchOptions {
  /** Local name of the remote: the folder under refs/remotes. Default `origin`. */
  readonly name?: string;
  /** Branches to fetch; a branch that the remote lacks is absent from the answer. Default: all. */
  readonly branches?: readonly string[];
  /** Also fetch what HEAD is, as the branch `HEAD`: a detached checkout has no other name. Only with all branches. */
  readonly head?: boolean;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

export interface RefUpdate {
  /** Branch name on the remote, without refs/heads/. */
  readonly branch: string;
  /** What the remote must hold now; undefined: it must not exist. */
  readonly from: string | undefined;
  readonly to: string;
}

const NETWORK_TIMEOUT_MS = 300_000;

/** Opens the mirror in `directory`, creating it when it is missing or was never finished. */
export async function openGitMirror(directory: string): Promise<string> {
  assertAbsolute(directory);
  const finished = join(directory, 'slipway-mirror');
  if (existsSync(finished)) return directory;
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await gitText('', ['init', '--quiet', '--bare', '--initial-branch=none', directory]);
  await mkdir(finished);
  return directory;
}

/**
 * Removes what a killed git left behind: `*.lock` files, which would block every later ref update, and half
 * written packs. Only for the one process that owns the mirror.
 */
export async function clearGitLeftovers(mirror: string): Promise<void> {
  const stale = async (folder: string, pattern: RegExp, recursive: boolean): Promise<void> => {
    const names = await readdir(join(mirror, folder), { recursive }).catch(() => []);
    const old = names.filter((name) => pattern.test(name));
    await Promise.all(old.map(async (name) => await rm(join(mirror, folder, name), { force: true })));
  };
  await stale('', /\.lock$|^slipway-index|^fast_import_crash/, false);
  await stale('refs', /\.lock$/, true);
  await stale('objects/pack', /^tmp_|\.lock$/, false);
}

/** Fetches branches into the mirror and returns the tip of each; branches that are gone are pruned. */
export async function fetchBranches(
  mirror: string,
  remote: GitRemote,
  options: FetchOptions = {},
): Promise<Map<string, string>> {
  const name = options.name ?? 'origin';
  if (options.branches === undefined) {
    const head = options.head === true ? [`+HEAD:refs/remotes/${name}/HEAD`] : [];
    await fetchRefs(mirror, remote, [`+refs/heads/*:refs/remotes/${name}/*`, ...head], options);
    return await readBranches(mirror, name);
  }
  const wanted = new Set(options.branches);
  for (const branch of wanted) assertPlain('branch', branch);
  const gone = await fetchExisting(mirror, remote, wanted, { ...options, name });
  for (const branch of gone) await gitText(mirror, ['update-ref', '-d', `refs/remotes/${name}/${branch}`]);
  const all = await readBranches(mirror, name);
  return new Map([...all].filter(([branch]) => wanted.has(branch) && !gone.has(branch)));
}

/** The branches of a remote as the last fetch saw them. */
export async function readBranches(mirror: string, name = 'origin'): Promise<Map<string, string>> {
  const prefix = `refs/remotes/${name}/`;
  const text = await gitText(mirror, ['for-each-ref', '--format=%(objectname) %(refname)', prefix]);
  const lines = text.split('\n').filter((line) => line !== '');
  return new Map(
    lines.map((line) => {
      const [commit = '', ref = ''] = line.split(' ');
      return [ref.slice(prefix.length), commit] as const;
    }),
  );
}

/**
 * Moves branches of the remote, all or none, by compare-and-swap. Each must only grow: an update whose `to` does
 * not descend from `from` is refused before anything is sent. A branch that moved is `publish_conflict`.
 */
export async function pushBranches(
  mirror: string,
  remote: GitRemote,
  updates: readonly RefUpdate[],
  options: { readonly signal?: AbortSignal; readonly timeoutMs?: number } = {},
): Promise<void> {
  await Promise.all(updates.map(async (update) => await assertFastForward(mirror, update)));
  const leases = updates.map(({ branch, from }) => `--force-with-lease=refs/heads/${branch}:${from ?? ''}`);
  const refs = updates.map(({ branch, to }) => `${to}:refs/heads/${branch}`);
  const args = ['push', '--atomic', '--porcelain', '--no-verify', ...leases, '--', remote.url, ...refs];
  const result = await connect(mirror, remote, args, options);
  if (result.code !== 0) throw pushFailed(remote, args, result);
}

async function assertFastForward(mirror: string, update: RefUpdate): Promise<void> {
  assertPlain('branch', update.branch);
  if (update.from === undefined) return;
  const result = await runGit(mirror, ['merge-base', '--is-ancestor', update.from, update.to]);
  if (result.code === 0) return;
  if (result.code !== 1) throw gitFailed(['merge-base'], result);
  throw new SlipwayError(
    'publish_conflict',
    `The new ${update.branch} (${update.to.slice(0, 12)}) is not a descendant of ${update.from.slice(0, 12)}; the branch only grows.`,
    { next: 'Run the pipeline again; it starts from the present tip.', facts: { ...update } },
  );
}

function pushFailed(remote: GitRemote, args: readonly string[], result: ExecResult): SlipwayError {
  const report = result.stdout.toString('utf8');
  const rejected = report.split('\n').filter((line) => line.startsWith('!'));
  if (rejected.length === 0) return connectionFailed(remote, args, result);
  const reasons = rejected.map((line) =>
    line
      .split('\t')
      .slice(1)
      .join(' ')
      .replaceAll(/^\S*:refs\/heads\//g, ''),
  );
  const facts = { remote: remote.url, rejected: reasons };
  const moved =
    /stale info|fetch first|non-fast-forward|cannot lock ref|failed to update ref|reference already exists|incorrect old value/;
  if (moved.test(report + result.stderr)) {
    return new SlipwayError(
      'publish_conflict',
      `A branch moved while publishing to ${remote.url}: ${reasons.join('; ')}`,
      {
        next: 'Somebody else published meanwhile. Nothing was changed; run the pipeline again.',
        facts,
      },
    );
  }
  return new SlipwayError(
    'forbidden',
    `${remote.url} refused the push: ${reasons.join('; ')} ${lastWords(result)}`,
    {
      next: "Check the branch protection: Slipway's identity must be allowed to push the release and manifest branches.",
      facts,
    },
  );
}

async function fetchRefs(
  mirror: string,
  remote: GitRemote,
  refspecs: readonly string[],
  options: FetchOptions,
): Promise<void> {
  const args = ['fetch', '--quiet', '--prune', '--no-tags', '--no-write-fetch-head', ...readForeign(remote)];
  const result = await connect(mirror, remote, [...args, '--', remote.url, ...refspecs], options);
  if (result.code !== 0) throw fetchFailed(remote, args, result);
}

/** Reading a repository of another user is harmless: upload-pack runs nothing that the repository configures. */
function readForeign(remote: GitRemote): string[] {
  return remote.kind === 'local' ? ['--upload-pack', "git -c safe.directory='*' upload-pack"] : [];
}

/** Fetches the wanted branches; those that the remote does not have come back as the set of missing ones. */
async function fetchExisting(
  mirror: string,
  remote: GitRemote,
  wanted: ReadonlySet<string>,
  options: FetchOptions,
): Promise<Set<string>> {
  const gone = new Set<string>();
  while (gone.size < wanted.size) {
    const present = [...wanted].filter((branch) => !gone.has(branch));
    const refspecs = present.map((branch) => `+refs/heads/${branch}:refs/remotes/${options.name}/${branch}`);
    try {
      await fetchRefs(mirror, remote, refspecs, options);
      return gone;
    } catch (error) {
      const missing = error instanceof SlipwayError ? error.facts['missingBranch'] : undefined;
      if (typeof missing !== 'string' || gone.has(missing)) throw error;
      gone.add(missing);
    }
  }
  return gone;
}

function fetchFailed(remote: GitRemote, args: readonly string[], result: ExecResult): SlipwayError {
  const missing = /couldn't find remote ref refs\/heads\/(\S+)/.exec(result.stderr)?.[1];
  if (missing === undefined) return connectionFailed(remote, args, result);
  return new SlipwayError('repository_unusable', `${remote.url} has no branch ${missing}.`, {
    next: 'Check the name of the branch (--source-branch).',
    facts: { remote: remote.url, missingBranch: missing },
  });
}

async function connect(
  mirror: string,
  remote: GitRemote,
  args: readonly string[],
  options: { readonly signal?: AbortSignal; readonly timeoutMs?: number },
): Promise<ExecResult> {
  const connection = await openGitConnection(remote);
  return await runGit(mirror, [...connection.settings, ...args], {
    ...connection.options,
    timeoutMs: options.timeoutMs ?? NETWORK_TIMEOUT_MS,
    ...(options.signal && { signal: options.signal }),
  });
}
