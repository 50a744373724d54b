// Looks at a repository's branch from time to time, and at once when a webhook makes it wonder. Reads only; what a new
// head means is the fleet's decision.
import type { RepositoryConfig } from '../api/server-config.ts';
import { runGit } from '../effects/git-command.ts';
import { connectionFailed, openGitConnection, type GitRemote } from '../effects/git-remote.ts';
import type { Fleet } from '../fleet/fleet.ts';
import { sleep } from '../util/deadline.ts';
import { asSlipwayError, SlipwayError } from '../util/errors.ts';

export interface BranchPollerOptions {
  readonly fleet: Fleet;
  readonly repository: RepositoryConfig;
  readonly remote: GitRemote;
  readonly signal: AbortSignal;
}

const LOOK_TIMEOUT_MS = 30_000;
/** Webhooks may wonder often; the forge is asked at most once in this time. */
const SHORTEST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 15 * 60_000;

/** Polls until the signal fires. A failed look is shown with the repository, and the pause grows. */
export async function pollBranch(options: BranchPollerOptions): Promise<void> {
  const { fleet, repository, signal } = options;
  let wake = new AbortController();
  using _work = fleet.onWork(
    (work) => {
      if (work.kind === 'look' && work.repository === repository.name) wake.abort();
    },
    { runner: false },
  );
  for (let failures = 0; !signal.aborted;) {
    failures = (await look(options)) ? 0 : failures + 1;
    await pause(SHORTEST_PAUSE_MS, signal);
    const rest = pauseMs(repository.poll, failures) - SHORTEST_PAUSE_MS;
    await pause(rest, AbortSignal.any([signal, wake.signal]));
    wake = new AbortController();
  }
}

/** One look; false when it failed. */
async function look({ fleet, repository, remote, signal }: BranchPollerOptions): Promise<boolean> {
  const { name, branch } = repository;
  try {
    const commit = await readBranchHead(remote, branch, signal);
    fleet.recordLook(name, { head: commit });
    await fleet.hearOfCommit({ repository: name, branch, commit, trigger: 'poll' });
    return true;
  } catch (error) {
    if (signal.aborted) return true;
    const { code, message, next } = asSlipwayError(error);
    fleet.recordLook(name, { problem: { code, message, ...(next !== undefined && { next }) } });
    return false;
  }
}

/** The commit that the branch points to, asked of the remote without fetching anything. */
export async function readBranchHead(
  remote: GitRemote,
  branch: string,
  signal: AbortSignal,
): Promise<string> {
  const connection = await openGitConnection(remote);
  const args = ['ls-remote', '--quiet', '--', remote.url, `refs/heads/${branch}`];
  const result = await runGit('', [...connection.settings, ...args], {
    ...connection.options,
    timeoutMs: LOOK_TIMEOUT_MS,
    signal,
  });
  if (result.code !== 0) throw connectionFailed(remote, args, result);
  const commit = /^([0-9a-f]{40,64})\t/.exec(result.stdout.toString('utf8'))?.[1];
  if (commit !== undefined) return commit;
  throw new SlipwayError('not_found', `${remote.url} has no branch ${branch} yet.`, {
    next: `Push one: git push ${remote.url} ${branch}`,
  });
}

/** Between two looks: the configured time with a tenth of jitter, doubled with each failure; 0 seconds means never. */
function pauseMs(poll: number, failures: number): number {
  const base = poll === 0 && failures === 0 ? LONGEST_PAUSE_MS * 96 : Math.max(poll, 5) * 1000;
  if (poll !== 0 && failures === 0) return poll * 1000 * (0.9 + Math.random() / 5);
  return failures === 0 ? base : Math.min(LONGEST_PAUSE_MS, base * 2 ** Math.min(failures, 10));
}

/** Sleeps; an abort ends it early, which is no failure here. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0) await sleep(ms, signal).catch(() => undefined);
}
