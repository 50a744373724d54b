// Which release this host should take: a pure function of what was fetched, what is applied and what an operator
// said. Several remotes are asked in order as comin does; a rewritten history is refused as comin does; unlike
// comin, a release counts only with a trusted signature, a growing serial and this host in its manifest.
import type { ManifestHost, ReleaseManifest } from '../api/manifest.ts';
import type { HostRelease, QuarantineEntry } from './agent-state.ts';

/** What became of the manifest that was fetched beside a release. */
export type ManifestFacts =
  | { readonly kind: 'missing' }
  | { readonly kind: 'untrusted'; readonly detail: string }
  | { readonly kind: 'malformed'; readonly detail: string }
  | { readonly kind: 'trusted'; readonly manifest: ReleaseManifest };

export type RemoteFacts = { readonly url: string; readonly branch: string } & (
  | { readonly kind: 'unreachable'; readonly detail: string }
  | { readonly kind: 'empty' }
  | {
      readonly kind: 'tip';
      readonly commit: string;
      /** Whether the applied release's commit is an ancestor of the tip; `yes` when nothing is applied yet. */
      readonly descends: 'yes' | 'no';
      readonly manifest: ManifestFacts;
    }
);

export interface ReleaseFacts {
  readonly host: string;
  readonly now: Date;
  /** In the order of the configuration. */
  readonly remotes: readonly RemoteFacts[];
  readonly applied: HostRelease | undefined;
  /** Targets of /run/current-system and of the system profile. */
  readonly current: string | undefined;
  readonly profile: string | undefined;
  readonly quarantine: readonly QuarantineEntry[];
  readonly accepted: string | undefined;
  readonly suspended: { readonly reason: string; readonly until: Date | undefined } | undefined;
  readonly hold: string | undefined;
  /** Set while the last attempt of a toplevel failed for a reason that may pass by itself. */
  readonly retry: { readonly toplevel: string; readonly notBefore: Date; readonly note: string } | undefined;
  readonly maxReleaseAge: number;
  readonly selfHeal: boolean;
}

/** Why a release is not taken: a word for machines, a sentence for people, and what they can do. */
export interface Because {
  readonly reason: string;
  readonly detail: string;
  readonly next?: string;
}

export interface Candidate {
  readonly release: HostRelease;
  readonly url: string;
  readonly manifest: ReleaseManifest;
  readonly entry: ManifestHost;
}

export type ReleaseDecision =
  | { readonly kind: 'apply'; readonly candidate: Candidate; readonly because: Because }
  /** The host runs what the newest release wants of it. */
  | { readonly kind: 'current'; readonly candidate: Candidate; readonly because: Because }
  | { readonly kind: 'wait'; readonly candidate: Candidate | undefined; readonly because: Because }
  | { readonly kind: 'refuse'; readonly candidate: Candidate | undefined; readonly because: Because };

type Weighed =
  | { readonly accepted: Candidate }
  | { readonly kind: 'wait' | 'refuse'; readonly because: Because };

export function chooseRelease(facts: ReleaseFacts): ReleaseDecision {
  const weighed = facts.remotes.map((remote) => weighRemote(facts, remote));
  const candidate = newest(weighed.flatMap((one) => ('accepted' in one ? [one.accepted] : [])));
  if (candidate === undefined) return withoutCandidate(weighed);
  return decideOn(facts, candidate);
}

/** The verdict on each remote alone, for the status: undefined when its release may be taken. */
export function weighRemotes(facts: ReleaseFacts): readonly (Because | undefined)[] {
  return facts.remotes.map((remote) => {
    const weighed = weighRemote(facts, remote);
    return 'accepted' in weighed ? undefined : weighed.because;
  });
}

function weighRemote(facts: ReleaseFacts, remote: RemoteFacts): Weighed {
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
    detail: `The manifest in ${where} is for commit ${short(manifest.commit)}, but the branch is at ${short(remote.commit)}.`,
    next: 'Publish releases with "slipway ci run"; nothing else may push to the release branch.',
  };
}

function historyRefusal(
  facts: ReleaseFacts,
  remote: RemoteFacts & { kind: 'tip' },
  manifest: ReleaseManifest,
  where: string,
): Because | undefined {
  const { applied } = facts;
  if (applied === undefined || remote.commit === facts.accepted) return undefined;
  if (manifest.serial < applied.serial) {
    return {
      reason: 'serial-went-back',
      detail: `The release in ${where} has the serial ${manifest.serial}, older than the applied ${applied.serial}.`,
      next: 'To go back to an older state, revert the commit and publish a new release.',
    };
  }
  if (manifest.serial === applied.serial && remote.commit !== applied.commit) {
    return rewritten(
      `The serial ${manifest.serial} in ${where} was used for another commit before.`,
      remote.commit,
    );
  }
  if (remote.descends === 'yes') return undefined;
  const detail = `The history of ${where} was rewritten: the applied commit ${short(applied.commit)} is not an ancestor of ${short(remote.commit)}.`;
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
  if (facts.maxReleaseAge === 0 || manifest.commit === facts.applied?.commit) return undefined;
  const age = (facts.now.getTime() - Date.parse(manifest.createdAt)) / 1000;
  if (age <= facts.maxReleaseAge) return undefined;
  return {
    reason: 'too-old',
    detail: `The release ${manifest.serial} was made ${Math.round(age / 3600)} h ago, longer than maxReleaseAge allows.`,
    next: 'Publish a new release, and check this host’s clock.',
  };
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
  const release = { serial: manifest.serial, commit: remote.commit, toplevel: entry.toplevel };
  return { accepted: { release, url: remote.url, manifest, entry } };
}

/** The highest serial; the earlier remote when two offer the same. */
function newest(candidates: readonly Candidate[]): Candidate | undefined {
  return candidates.reduce<Candidate | undefined>(
    (best, one) => (best === undefined || one.release.serial > best.release.serial ? one : best),
    undefined,
  );
}

/** Nothing to take: a refusal says more than a wait, and the first remote speaks first. */
function withoutCandidate(weighed: readonly Weighed[]): ReleaseDecision {
  const said = weighed.flatMap((one) => ('because' in one ? [one] : []));
  const loudest = said.find((one) => one.kind === 'refuse') ?? said[0];
  const because = loudest?.because ?? { reason: 'no-remote', detail: 'No remote is configured.' };
  return { kind: loudest?.kind ?? 'wait', candidate: undefined, because };
}

function decideOn(facts: ReleaseFacts, candidate: Candidate): ReleaseDecision {
  const { release, entry } = candidate;
  if (facts.current === release.toplevel && facts.profile === release.toplevel) {
    const detail = `Release ${release.serial} (${short(release.commit)}) is what this host runs.`;
    return { kind: 'current', candidate, because: { reason: 'synced', detail } };
  }
  if (entry.mode !== 'pull') {
    const detail = `This host is in mode ${entry.mode}: its agent only watches.`;
    return { kind: 'wait', candidate, because: { reason: 'not-pull', detail } };
  }
  const known = facts.quarantine.find((one) => one.toplevel === release.toplevel);
  if (known !== undefined) return { kind: 'refuse', candidate, because: quarantined(known) };
  const pause = pauseFor(facts) ?? driftPause(facts, release) ?? backoff(facts, release);
  if (pause !== undefined) return { kind: 'wait', candidate, because: pause };
  const detail = `Release ${release.serial} (${short(release.commit)}) brings a new system.`;
  return { kind: 'apply', candidate, because: { reason: 'new-release', detail } };
}

function quarantined(entry: QuarantineEntry): Because {
  return {
    reason: 'quarantined',
    detail: `${entry.toplevel} failed on this host before (${entry.reason}: ${entry.detail}).`,
    next: 'Push a change that mends it, or run "slipway agent retry" on this host to try it once more.',
  };
}

function pauseFor(facts: ReleaseFacts): Because | undefined {
  if (facts.suspended !== undefined) {
    const { reason, until } = facts.suspended;
    const end = until === undefined ? 'until it is resumed' : `until ${until.toISOString()}`;
    const next = 'Run "slipway agent resume" to go on now.';
    return { reason: 'suspended', detail: `Suspended ${end}: ${reason}.`, next };
  }
  if (facts.hold === undefined) return undefined;
  return { reason: 'held', detail: `The control plane asks to wait: ${facts.hold}.` };
}

/** A host that somebody switched by hand is left alone unless selfHeal is on: operators debug on hosts. */
function driftPause(facts: ReleaseFacts, release: HostRelease): Because | undefined {
  if (facts.applied?.toplevel !== release.toplevel || facts.selfHeal) return undefined;
  return {
    reason: 'drifted',
    detail: `Somebody switched this host by hand after release ${facts.applied.serial}.`,
    next: 'Switch back, push a change of this host, or set selfHeal = true.',
  };
}

function backoff(facts: ReleaseFacts, release: HostRelease): Because | undefined {
  if (facts.retry?.toplevel !== release.toplevel || facts.retry.notBefore <= facts.now) return undefined;
  return {
    reason: 'backing-off',
    detail: `The last attempt failed and is repeated at ${facts.retry.notBefore.toISOString()}: ${facts.retry.note}`,
    next: 'Run "slipway agent sync" to try again now.',
  };
}

function short(commit: string): string {
  return commit.slice(0, 10);
}
