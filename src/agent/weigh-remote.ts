// What one remote offers, judged by itself: a trusted signature, the right branch and commit, a history that only grew,
// and this host in it. What the host does with it is decided in choose-release.ts.
import type { ReleaseManifest } from '../api/manifest.ts';
import type { HostRelease } from './agent-state.ts';
import {
  type Because,
  type Candidate,
  isTestingBranch,
  type ReleaseFacts,
  type RemoteFacts,
  shortCommit,
} from './release-facts.ts';

export type Weighed =
  | { readonly accepted: Candidate }
  | { readonly kind: 'wait' | 'refuse'; readonly because: Because };

/** Whether this remote's release may be taken at all, whatever the host does at the moment. */
export function weighRemote(facts: ReleaseFacts, remote: RemoteFacts): Weighed {
  const where = `${remote.branch} of ${remote.url}`;
  if (remote.kind === 'unreachable') {
    return { kind: 'wait', because: { reason: 'unreachable', detail: `${where}: ${remote.detail}` } };
  }
  if (remote.kind === 'empty') {
    return { kind: 'wait', because: { reason: 'no-release', detail: `There is no branch ${where} yet.` } };
  }
  const manifest = trustedManifest(remote, where);
  if ('because' in manifest) return manifest;
  const refusal =
    mismatch(remote, manifest, where) ??
    historyRefusal(facts, remote, manifest, where) ??
    ageRefusal(facts, manifest);
  if (refusal !== undefined) return { kind: 'refuse', because: refusal };
  return hostCandidate(facts, remote, manifest);
}

function trustedManifest(
  remote: RemoteFacts & { kind: 'tip' },
  where: string,
): ReleaseManifest | { readonly kind: 'refuse'; readonly because: Because } {
  const { manifest } = remote;
  if (manifest.kind === 'trusted') return manifest.manifest;
  if (manifest.kind === 'missing') {
    const because = {
      reason: 'manifest-missing',
      detail: `The release in ${where} has no manifest beside it.`,
    };
    return { kind: 'refuse', because: { ...because, next: 'Publish releases with "slipway ci run".' } };
  }
  const reason = manifest.kind === 'untrusted' ? 'signature-invalid' : 'manifest-malformed';
  return {
    kind: 'refuse',
    because: { reason, detail: `The manifest in ${where} ${manifest.detail}`, ...nextFor(reason) },
  };
}

function nextFor(reason: string): { readonly next?: string } {
  if (reason !== 'signature-invalid') return {};
  return {
    next: 'If the signing key was changed on purpose, add its public key to releaseKeys of this agent; if not, find out who pushed this.',
  };
}

function mismatch(
  remote: RemoteFacts & { kind: 'tip' },
  manifest: ReleaseManifest,
  where: string,
): Because | undefined {
  if (manifest.branch !== remote.branch) {
    return {
      reason: 'other-branch',
      detail: `The manifest in ${where} was signed for the branch ${manifest.branch}.`,
    };
  }
  if (manifest.commit === remote.commit) return undefined;
  return {
    reason: 'other-commit',
    detail: `The manifest in ${where} is for commit ${shortCommit(manifest.commit)}, but the branch is at ${shortCommit(remote.commit)}.`,
    next: 'Publish releases with "slipway ci run"; nothing else may push to the release branch.',
  };
}

function historyRefusal(
  facts: ReleaseFacts,
  remote: RemoteFacts & { kind: 'tip' },
  manifest: ReleaseManifest,
  where: string,
): Because | undefined {
  const known = newestKnown(facts, remote.branch);
  if (known === undefined || remote.commit === facts.accepted) return undefined;
  if (manifest.serial < known.serial) {
    return {
      reason: 'serial-went-back',
      detail: `The release in ${where} has the serial ${manifest.serial}, older than the applied ${known.serial}.`,
      next: 'To go back to an older state, revert the commit and publish a new release.',
    };
  }
  if (manifest.serial === known.serial && remote.commit !== known.commit) {
    return rewritten(
      `The serial ${manifest.serial} in ${where} was used for another commit before.`,
      remote.commit,
    );
  }
  if (remote.descends === 'yes') return undefined;
  return offTheMainline(facts, remote, where);
}

/** A testing branch comes and goes: while its release is applied it may not go back; else it only has to be newer. */
function newestKnown({ applied, mainline, host }: ReleaseFacts, branch: string): HostRelease | undefined {
  return isTestingBranch(branch, host) && applied?.testing === true ? applied : mainline;
}

function offTheMainline(facts: ReleaseFacts, remote: RemoteFacts & { kind: 'tip' }, where: string): Because {
  const known = shortCommit(facts.mainline?.commit ?? '');
  if (isTestingBranch(remote.branch, facts.host))
    return {
      reason: 'not-on-top',
      detail: `The release in ${where} does not go on top of the release ${known}.`,
      next: 'Make it again with "slipway ci run --testing", on top of the newest release.',
    };
  const detail = `The history of ${where} was rewritten: the applied commit ${known} is not an ancestor of ${shortCommit(remote.commit)}.`;
  return rewritten(detail, remote.commit);
}

function rewritten(detail: string, commit: string): Because {
  return {
    reason: 'history-rewritten',
    detail,
    next: `Restore the branch; or, if it was rewritten on purpose, run "slipway agent accept ${commit}" on this host.`,
  };
}

function ageRefusal(facts: ReleaseFacts, manifest: ReleaseManifest): Because | undefined {
  if (facts.maxReleaseAge === 0 || isKnown(facts, manifest.commit)) return undefined;
  const age = (facts.now.getTime() - Date.parse(manifest.createdAt)) / 1000;
  if (age <= facts.maxReleaseAge) return undefined;
  return {
    reason: 'too-old',
    detail: `The release ${manifest.serial} was made ${Math.round(age / 3600)} h ago, longer than maxReleaseAge allows.`,
    next: 'Publish a new release, and check this host’s clock.',
  };
}

/** What was taken before does not grow too old to stay, or to come back to. */
function isKnown({ applied, mainline }: ReleaseFacts, commit: string): boolean {
  return commit === applied?.commit || commit === mainline?.commit;
}

function hostCandidate(
  facts: ReleaseFacts,
  remote: RemoteFacts & { kind: 'tip' },
  manifest: ReleaseManifest,
): Weighed {
  const entry = Object.hasOwn(manifest.hosts, facts.host) ? manifest.hosts[facts.host] : undefined;
  if (entry === undefined) {
    const detail = `The release ${manifest.serial} has no host named ${facts.host}.`;
    const next = 'Check the host name in the agent’s configuration, or add the host to the flake.';
    return { kind: 'refuse', because: { reason: 'host-missing', detail, next } };
  }
  const testing = isTestingBranch(remote.branch, facts.host) && { testing: true as const };
  const release = { serial: manifest.serial, commit: remote.commit, toplevel: entry.toplevel, ...testing };
  return { accepted: { release, url: remote.url, manifest, entry, onTopOf: remote.onTopOf } };
}
