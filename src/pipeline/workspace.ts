// The state folder of a pipeline for one repository: its mirror and the lock. It is a cache: deleting it costs a fetch.
// Whatever a killed run left behind (git locks, the unpublished candidate) is removed when the next run begins.
import { createHash } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { clearGitLeftovers, openGitMirror } from '../effects/git-mirror.ts';
import type { GitRemote } from '../effects/git-remote.ts';
import { findObject, setRef } from '../effects/git-tree.ts';
import { lockForRun, type RunLockOptions } from '../effects/run-lock.ts';
import { CANDIDATE_REF } from './release-commit.ts';

/** The release that stands, the one before it (for a rollback), and the one in the making. */
const KEPT_ROOTS = 2;

export interface Workspace extends AsyncDisposable {
  readonly mirror: string;
  /** Holds one folder of GC roots for each of the last runs that built something. */
  readonly roots: string;
}

/** Opens the workspace of `remote` under `stateDirectory`, alone: a second run waits here. */
export async function openWorkspace(
  stateDirectory: string,
  remote: GitRemote,
  options: RunLockOptions,
): Promise<Workspace> {
  const folder = join(stateDirectory, folderName(remote.url));
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const lock = await lockForRun(folder, options);
  try {
    const mirror = await openGitMirror(join(folder, 'mirror.git'));
    await clearGitLeftovers(mirror);
    await dropCandidate(mirror);
    const roots = join(folder, 'roots');
    await dropOldRoots(roots);
    return {
      mirror,
      roots,
      async [Symbol.asyncDispose]() {
        await dropCandidate(mirror).finally(() => lock[Symbol.dispose]());
      },
    };
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

/** Run names sort by time, so the last ones are the newest. */
async function dropOldRoots(roots: string): Promise<void> {
  const runs = await readdir(roots).catch(() => []);
  const old = runs.toSorted((a, b) => (a < b ? -1 : 1)).slice(0, -KEPT_ROOTS);
  await Promise.all(old.map(async (run) => await rm(join(roots, run), { recursive: true, force: true })));
}

async function dropCandidate(mirror: string): Promise<void> {
  if ((await findObject(mirror, CANDIDATE_REF)) !== undefined) await setRef(mirror, CANDIDATE_REF, undefined);
}

/** Readable and unique: the repository's last name and a hash of its URL. */
function folderName(url: string): string {
  const name = /([A-Za-z0-9._-]+?)(\.git)?\/?$/.exec(url)?.[1] ?? 'repository';
  return `${name}-${createHash('sha256').update(url).digest('hex').slice(0, 12)}`;
}
