// Asks every remote for its release branch and the manifest branch beside it, in one fetch each, into a bare
// mirror in the agent's state folder. What cannot be reached is a fact to weigh, not a failure.
import path from 'node:path';
import type { AgentConfig, AgentRemote } from '../api/agent-config.ts';
import { MANIFEST_FILE, MANIFEST_SIGNATURE_FILE, manifestBranch } from '../api/manifest.ts';
import { clearGitLeftovers, fetchBranches, openGitMirror, readBranches } from '../effects/git-mirror.ts';
import { parseGitRemote, type GitRemote } from '../effects/git-remote.ts';
import { findObject, isAncestor, readBlobs, setRef } from '../effects/git-tree.ts';
import { readSecretReference } from '../effects/secret-reference.ts';
import { asSlipwayError, isCode } from '../util/errors.ts';
import { isTestingBranch, type ManifestFacts, type RemoteFacts } from './release-facts.ts';
import { verifyManifest } from './verify-manifest.ts';

/** Older than testing releases, hence its name. */
const MAINLINE_REF = 'refs/slipway/applied';

/** Opens the mirror; only the running agent may: it clears what a killed git left behind. */
export async function openReleaseMirror(stateDir: string): Promise<string> {
  const mirror = await openGitMirror(path.join(stateDir, 'mirror.git'));
  await clearGitLeftovers(mirror);
  return mirror;
}

export interface Round {
  /** Commit of the newest known release of the main branch: what every tip must descend from. */
  readonly mainline: string | undefined;
  /** Whether the remote of this index is to be asked now; else the answer of the last time is weighed again. */
  readonly isDue: (index: number) => boolean;
  readonly last: readonly RemoteFacts[];
  readonly signal: AbortSignal;
}

/** The facts of every remote, in the order of the configuration. Rejects only when the agent is told to stop. */
export async function fetchReleases(
  mirror: string,
  config: AgentConfig,
  round: Round,
): Promise<RemoteFacts[]> {
  if (round.mainline !== undefined) await keepMainline(mirror, round.mainline);
  const facts: RemoteFacts[] = [];
  for (const [index, remote] of config.remotes.entries()) {
    const last = round.last[index];
    const due = last === undefined || round.isDue(index);
    if (!due && last.kind === 'unreachable') facts.push(last);
    else facts.push(await weighRemote(mirror, config, { ...round, remote, name: `r${index}`, due }));
  }
  return await Promise.all(facts.map(async (one) => await placeTesting(mirror, config.host, one, facts)));
}

/** Says of a testing release which of the main releases just fetched it goes on top of. */
async function placeTesting(
  mirror: string,
  host: string,
  remote: RemoteFacts,
  all: readonly RemoteFacts[],
): Promise<RemoteFacts> {
  if (remote.kind !== 'tip' || !isTestingBranch(remote.branch, host)) return remote;
  const onTopOf: string[] = [];
  for (const other of all) {
    if (other.kind !== 'tip' || isTestingBranch(other.branch, host)) continue;
    if ((await descends(mirror, other.commit, remote.commit)) === 'yes') onTopOf.push(other.commit);
  }
  return { ...remote, onTopOf };
}

export function gitRemoteOf(remote: AgentRemote): GitRemote {
  const { token, sshKey, knownHostsFile } = remote;
  return parseGitRemote(remote.url, {
    username: remote.username,
    ...(token !== undefined && { readToken: async () => await readSecretReference(token) }),
    ...(sshKey !== undefined && { sshKeyFile: sshKey }),
    ...(knownHostsFile !== undefined && { knownHostsFile }),
  });
}

interface OneRemote extends Round {
  readonly remote: AgentRemote;
  /** Folder under refs/remotes of the mirror. */
  readonly name: string;
  readonly due: boolean;
}

async function weighRemote(mirror: string, config: AgentConfig, one: OneRemote): Promise<RemoteFacts> {
  const place = { url: one.remote.url, branch: one.remote.branch };
  try {
    const beside = manifestBranch(place.branch);
    const tips = one.due
      ? await fetchTips(mirror, one, config.timeouts.fetch * 1000)
      : await readBranches(mirror, one.name);
    const commit = tips.get(place.branch);
    if (commit === undefined) return { ...place, kind: 'empty' };
    const manifest = await readManifest(mirror, tips.get(beside), config.releaseKeys);
    return {
      ...place,
      kind: 'tip',
      commit,
      onTopOf: [],
      descends: await descends(mirror, one.mainline, commit),
      manifest,
    };
  } catch (error) {
    one.signal.throwIfAborted();
    const { message } = asSlipwayError(error);
    return {
      ...place,
      kind: 'unreachable',
      detail: isCode(error, 'timeout') ? 'no answer in time' : message,
    };
  }
}

async function fetchTips(mirror: string, one: OneRemote, timeoutMs: number): Promise<Map<string, string>> {
  const branches = [one.remote.branch, manifestBranch(one.remote.branch)];
  const { name, signal } = one;
  return await fetchBranches(mirror, gitRemoteOf(one.remote), { name, branches, timeoutMs, signal });
}

/** The manifest of a tip of the manifest branch, with the verdict on its signature. */
async function readManifest(
  mirror: string,
  tip: string | undefined,
  keys: readonly string[],
): Promise<ManifestFacts> {
  if (tip === undefined) return { kind: 'missing' };
  const names = [`${tip}:${MANIFEST_FILE}`, `${tip}:${MANIFEST_SIGNATURE_FILE}`];
  const [file, signature] = await readBlobs(mirror, names);
  return verifyManifest(file, signature, keys);
}

async function descends(mirror: string, known: string | undefined, tip: string): Promise<'yes' | 'no'> {
  if (known === undefined || known === tip) return 'yes';
  const found = await findObject(mirror, `${known}^{commit}`);
  return found !== undefined && (await isAncestor(mirror, known, tip)) ? 'yes' : 'no';
}

/** Keeps the commit findable when a remote forgets it. */
async function keepMainline(mirror: string, commit: string): Promise<void> {
  const known = await findObject(mirror, `${commit}^{commit}`);
  if (known !== undefined) await setRef(mirror, MAINLINE_REF, commit);
}
