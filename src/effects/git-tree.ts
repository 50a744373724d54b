// Reads and writes git objects without a checkout: listings, blobs, trees from a base tree and changes, commits.
// Blobs are moved through one `cat-file --batch` or `fast-import` process for any number of them.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { SlipwayError } from '../util/errors.ts';
import { gitFailed, gitText, runGit } from './git-command.ts';
import { type CommitSigning, signingArguments } from './git-signature.ts';

export interface TreeEntry {
  /** Path from the root of the tree, with `/`. */
  readonly path: string;
  /** 100644, 100755, 120000 (symlink) or 160000 (submodule). */
  readonly mode: string;
  readonly oid: string;
}

/** A change to a tree: a blob at a path, or its removal. */
export type TreeChange =
  | { readonly path: string; readonly oid: string; readonly mode: '100644' | '100755' }
  | { readonly path: string; readonly remove: true };

export interface CommitFacts {
  readonly commit: string;
  readonly tree: string;
  readonly parents: readonly string[];
  readonly subject: string;
  /** Seconds since 1970. */
  readonly committedAt: number;
  readonly author: string;
}

export interface NewCommit {
  /** Absent: the commit is not signed. */
  readonly signing?: CommitSigning | undefined;
  readonly tree: string;
  /** In order; the first is what `--first-parent` follows. */
  readonly parents: readonly string[];
  readonly message: string;
  readonly at: Date;
}

/** Who signs the commits that Slipway writes. */
const IDENTITY = { name: 'Slipway', email: 'slipway@localhost' };
const MAX_BLOBS_BYTES = 256 * 1024 * 1024;

/** The commit that a name stands for, or undefined. `name` is a full ref, a commit id or `<commit>^{tree}`. */
export async function findObject(repository: string, name: string): Promise<string | undefined> {
  const result = await runGit(repository, ['rev-parse', '--verify', '--quiet', '--end-of-options', name]);
  const oid = result.stdout.toString('utf8').trim();
  return result.code === 0 && /^[0-9a-f]{40,64}$/.test(oid) ? oid : undefined;
}

/** What the release needs to know about a commit. */
export async function readCommit(repository: string, commit: string): Promise<CommitFacts> {
  const format = '--format=%H%n%T%n%P%n%ct%n%an <%ae>%n%s';
  const text = await gitText(repository, ['show', '--no-patch', format, '--end-of-options', commit]);
  const [id = '', tree = '', parents = '', at = '0', author = '', subject = ''] = text.split('\n');
  const parentIds = parents.split(' ').filter((parent) => parent !== '');
  return { commit: id, tree, parents: parentIds, subject, committedAt: Number(at), author };
}

/** The value of a trailer of a commit's message; undefined when it has none. */
export async function readTrailer(
  repository: string,
  commit: string,
  name: string,
): Promise<string | undefined> {
  const format = `--format=%(trailers:key=${name},valueonly,only=true)`;
  const text = await gitText(repository, ['show', '--no-patch', format, '--end-of-options', commit]);
  return text === '' ? undefined : text.split('\n')[0];
}

export async function isAncestor(repository: string, older: string, newer: string): Promise<boolean> {
  const result = await runGit(repository, ['merge-base', '--is-ancestor', older, newer]);
  if (result.code > 1) throw gitFailed(['merge-base'], result);
  return result.code === 0;
}

export interface LoggedCommit {
  readonly commit: string;
  /** Seconds since 1970. */
  readonly at: number;
  /** Value of the trailer that was asked for; empty when the commit has none. */
  readonly value: string;
}

/** A branch's own commits, newest first: the first parents from its tip on. */
export async function listFirstParents(
  repository: string,
  tip: string,
  trailer: string,
): Promise<LoggedCommit[]> {
  const format = `--format=%H %ct %(trailers:key=${trailer},valueonly,separator=%x2C)`;
  const text = await gitText(repository, ['log', '--first-parent', format, '--end-of-options', tip]);
  return text.split('\n').map((line) => {
    const [commit = '', at = '0', value = ''] = line.split(' ');
    return { commit, at: Number(at), value };
  });
}

/** Ids of objects by name (`<commit>:<path>`), in order; undefined where there is none. */
export async function resolveObjects(
  repository: string,
  names: readonly string[],
): Promise<(string | undefined)[]> {
  if (names.length === 0) return [];
  const args = ['cat-file', '--batch-check=%(objectname) %(objecttype)'];
  const text = await gitText(repository, args, { input: names.map((name) => `${name}\n`).join('') });
  return text.split('\n').map((line) => /^([0-9a-f]{40,64}) \w+$/.exec(line)?.[1]);
}

/** Every file of a tree (or of a commit's tree). */
export async function listTree(repository: string, treeish: string): Promise<TreeEntry[]> {
  const text = await gitText(repository, ['ls-tree', '-r', '-z', '--full-tree', treeish]);
  return text
    .split('\0')
    .filter((line) => line !== '')
    .map(parseTreeLine);
}

/** Blobs by name (`<oid>` or `<commit>:<path>`), in order; undefined where there is none. */
export async function readBlobs(
  repository: string,
  names: readonly string[],
): Promise<(Buffer | undefined)[]> {
  if (names.length === 0) return [];
  if (names.some((name) => name.includes('\n')))
    throw new SlipwayError('invalid', 'A path in the repository contains a line break.');
  const args = ['cat-file', '--batch'];
  const result = await runGit(repository, args, { input: names.map((name) => `${name}\n`).join('') });
  if (result.code !== 0) throw gitFailed(args, result);
  return parseBatch(result.stdout, names.length);
}

/** Writes blobs and returns their ids, in order. Nothing refers to them yet. */
export async function writeBlobs(repository: string, blobs: readonly Uint8Array[]): Promise<string[]> {
  if (blobs.length === 0) return [];
  const total = blobs.reduce((sum, blob) => sum + blob.length, 0);
  if (total > MAX_BLOBS_BYTES)
    throw new SlipwayError('too_large', `The release would write ${total} bytes of secrets at once.`);
  const commands = blobs.flatMap((blob, index) => [
    Buffer.from(`blob\nmark :${index + 1}\ndata ${blob.length}\n`),
    blob,
    Buffer.from(`\nget-mark :${index + 1}\n`),
  ]);
  const input = Buffer.concat([Buffer.from('feature done\n'), ...commands, Buffer.from('done\n')]);
  const text = await gitText(repository, ['fast-import', '--quiet', '--done'], { input });
  return text.split('\n');
}

/** The tree that `base` becomes with the changes, through a private index. Removals of absent paths are nothing. */
export async function writeTree(
  repository: string,
  base: string,
  changes: readonly TreeChange[],
): Promise<string> {
  for (const change of changes) assertTreePath(change.path);
  const index = join(repository, `slipway-index-${randomBytes(8).toString('hex')}`);
  const env = { GIT_INDEX_FILE: index };
  try {
    await gitText(repository, ['read-tree', base], { env });
    const input = changes.map(formatIndexLine).join('');
    if (input !== '') await gitText(repository, ['update-index', '-z', '--index-info'], { env, input });
    return await gitText(repository, ['write-tree'], { env });
  } finally {
    await rm(index, { force: true });
    await rm(`${index}.lock`, { force: true });
  }
}

/** A tree of its own from top-level files, without a base. */
export async function writeFlatTree(
  repository: string,
  files: Readonly<Record<string, Uint8Array>>,
): Promise<string> {
  const names = Object.keys(files);
  const oids = await writeBlobs(repository, Object.values(files));
  const input = names.map((name, index) => `100644 blob ${oids[index] ?? ''}\t${name}\0`).join('');
  return await gitText(repository, ['mktree', '-z'], { input });
}

/** Writes a commit object and returns its id. No ref moves. */
export async function commitTree(repository: string, commit: NewCommit): Promise<string> {
  const date = `${Math.floor(commit.at.getTime() / 1000)} +0000`;
  const parents = commit.parents.flatMap((parent) => ['-p', parent]);
  const { settings, flags } = signingArguments(commit.signing);
  return await gitText(
    repository,
    [...settings, 'commit-tree', ...flags, ...parents, '-F', '-', commit.tree],
    {
      input: commit.message,
      env: {
        GIT_AUTHOR_NAME: IDENTITY.name,
        GIT_AUTHOR_EMAIL: IDENTITY.email,
        GIT_AUTHOR_DATE: date,
        GIT_COMMITTER_NAME: IDENTITY.name,
        GIT_COMMITTER_EMAIL: IDENTITY.email,
        GIT_COMMITTER_DATE: date,
      },
    },
  );
}

/** Sets a ref of the repository itself (not of a remote); undefined deletes it. */
export async function setRef(repository: string, ref: string, commit: string | undefined): Promise<void> {
  await gitText(repository, commit === undefined ? ['update-ref', '-d', ref] : ['update-ref', ref, commit]);
}

function parseTreeLine(line: string): TreeEntry {
  const [facts, path] = split(line, '\t');
  const [mode = '', , oid = ''] = facts.split(' ');
  return { path, mode, oid };
}

function parseBatch(stdout: Buffer, count: number): (Buffer | undefined)[] {
  const blobs: (Buffer | undefined)[] = [];
  let at = 0;
  while (blobs.length < count) {
    const end = stdout.indexOf(10, at);
    if (end < 0) throw new SlipwayError('repository_unusable', 'git cat-file ended early.');
    const [, type, size] = / ?(\S+) (\d+)$/.exec(stdout.toString('utf8', at, end)) ?? [];
    at = end + 1;
    if (size === undefined) blobs.push(undefined);
    else {
      const blob = stdout.subarray(at, at + Number(size));
      blobs.push(type === 'blob' ? blob : undefined);
      at += Number(size) + 1;
    }
  }
  return blobs;
}

/** `update-index` only warns about such a path and leaves it out, which would lose a secret silently. */
function assertTreePath(path: string): void {
  if (/[\0\n]/.test(path) || path.split('/').some((part) => /^(|\.|\.\.|\.git)$/i.test(part)))
    throw new SlipwayError('invalid', `"${path}" is not a path inside a repository.`);
}

function formatIndexLine(change: TreeChange): string {
  return 'remove' in change
    ? `0 ${'0'.repeat(40)}\t${change.path}\0`
    : `${change.mode} ${change.oid}\t${change.path}\0`;
}

function split(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return [text.slice(0, at), text.slice(at + separator.length)];
}
