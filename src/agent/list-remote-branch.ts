// Asks a git remote for its release branch without fetching: the outbound probe of a trial.
import type { AgentRemote } from '../api/agent-config.ts';
import { runGit } from '../effects/git-command.ts';
import { connectionFailed, openGitConnection } from '../effects/git-remote.ts';
import { gitRemoteOf } from './fetch-release.ts';

/** Resolves when the remote answered over a new connection; fails like a fetch otherwise. */
export async function listRemoteBranch(
  remote: AgentRemote,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const place = gitRemoteOf(remote);
  const connection = await openGitConnection(place);
  const args = ['ls-remote', '--quiet', '--heads', '--', place.url, `refs/heads/${remote.branch}`];
  const result = await runGit('', [...connection.settings, ...args], {
    ...connection.options,
    timeoutMs,
    signal,
  });
  if (result.code !== 0) throw connectionFailed(place, args, result);
}
