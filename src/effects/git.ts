// What a repository that a person named looks like: bare or with a working tree, its branch, whether it is dirty,
// where its origin is. Reads only; the repository's own configuration cannot run anything (see git-command.ts).
import { stat } from 'node:fs/promises';
import { SlipwayError } from '../util/errors.ts';
import { runGit } from './git-command.ts';

export interface LocalRepository {
  /** The git directory, absolute. */
  readonly gitDirectory: string;
  /** The root of the working tree; absent for a bare repository. */
  readonly workTree?: string;
  /** The branch that is checked out; absent when HEAD is detached. */
  readonly branch?: string;
  /** The commit that is checked out; absent before the first commit. */
  readonly head?: string;
  /** Whether history was cut off when it was cloned; git does not fetch from such a repository. */
  readonly shallow: boolean;
  /** URL of the remote `origin`, if there is one. */
  readonly originUrl?: string;
}

/** rev-parse, symbolic-ref and config run nothing that a repository configures, whoever owns it. */
const READ = ['-c', 'safe.directory=*', '-C'];

/** Looks at the repository at `path` (its root, a folder in it, or a bare repository). */
export async function readLocalRepository(path: string): Promise<LocalRepository> {
  await assertFolder(path);
  const asked = ['--absolute-git-dir', '--is-bare-repository', '--is-shallow-repository'];
  const found = await runGit('', [...READ, path, 'rev-parse', ...asked]);
  if (found.code !== 0) throw notARepository(path, found.stderr);
  const [gitDirectory = '', bare, shallow] = found.stdout.toString('utf8').trim().split('\n');
  const head = await say(path, ['rev-parse', '--verify', '--quiet', 'HEAD^{commit}']);
  const branch = await say(path, ['symbolic-ref', '--quiet', '--short', 'HEAD']);
  const workTree = bare === 'true' ? undefined : await say(path, ['rev-parse', '--show-toplevel']);
  const originUrl = await say(path, ['config', '--local', '--get', 'remote.origin.url']);
  return {
    gitDirectory,
    shallow: shallow === 'true',
    ...(head !== undefined && { head }),
    ...(branch !== undefined && { branch }),
    ...(workTree !== undefined && { workTree }),
    ...(originUrl !== undefined && bare !== 'true' && { originUrl }),
  };
}

/** Tracked files of the working tree that differ from its commit; what git does not track is not part of a release. */
export async function listDirtyFiles(workTree: string): Promise<string[]> {
  const args = ['-C', workTree, 'status', '--porcelain=v1', '-z', '--untracked-files=no', '--no-renames'];
  const result = await runGit('', [...args, '--ignore-submodules=dirty']);
  if (result.code !== 0) throw notARepository(workTree, result.stderr);
  const entries = result.stdout.toString('utf8').split('\0');
  return entries.filter((entry) => entry !== '').map((entry) => entry.slice(3));
}

/** Refuses a working tree with changes that are in no commit: a release is made from commits. */
export async function assertClean(workTree: string): Promise<void> {
  const dirty = await listDirtyFiles(workTree);
  if (dirty.length === 0) return;
  const shown = dirty.slice(0, 5).join(', ') + (dirty.length > 5 ? ` and ${dirty.length - 5} more` : '');
  throw new SlipwayError('repository_unusable', `${workTree} has changes that are in no commit: ${shown}`, {
    next: 'Commit or stash them; a release is made from a commit. --allow-dirty leaves them out instead.',
    facts: { dirty },
  });
}

async function assertFolder(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() === true) return;
  throw new SlipwayError('repository_unusable', `There is no folder ${path}.`, {
    next: 'Check --repository: a path or a URL of an existing git repository.',
  });
}

async function say(path: string, args: readonly string[]): Promise<string | undefined> {
  const result = await runGit('', [...READ, path, ...args]);
  const text = result.stdout.toString('utf8').trim();
  return result.code === 0 && text !== '' ? text : undefined;
}

function notARepository(path: string, stderr: string): SlipwayError {
  if (/dubious ownership|unsafe repository/.test(stderr))
    return new SlipwayError('forbidden', `${path} belongs to another user, so git refuses to read it.`, {
      next: 'Run as its owner, or give --allow-dirty: then only its commits are read.',
    });
  return new SlipwayError('repository_unusable', `${path} is not in a git repository.`, {
    next: 'Run "git init" and commit the flake there, or check --repository.',
  });
}
