// Which release this host should take: a pure function of what was fetched, what is applied and what an operator
// said. Several remotes are asked in order as comin does; a rewritten history is refused as comin does; unlike
// comin, a release counts only with a trusted signature, a growing serial and this host in its manifest.
import type { HostRelease, QuarantineEntry } from './agent-state.ts';
import {
  type Because,
  type Candidate,
  isTestingBranch,
  type ReleaseDecision,
  type ReleaseFacts,
  shortCommit,
} from './release-facts.ts';
import { weighRemote, type Weighed } from './weigh-remote.ts';

export function chooseRelease(facts: ReleaseFacts): ReleaseDecision {
  const weighed = facts.remotes.map((remote) => weighRemote(facts, remote));
  const accepted = weighed.flatMap((one) => ('accepted' in one ? [one.accepted] : []));
  const main = newest(accepted.filter(({ release }) => release.testing !== true));
  const candidate = newest(testingOn(facts, main, accepted)) ?? main;
  if (candidate === undefined) return withoutCandidate(weighed);
  return waitForTesting(facts, candidate) ?? decideOn(facts, candidate);
}

/** Testing releases that go on top of the newest release: a newer release ends the test, and so does a failed trial. */
function testingOn(
  facts: ReleaseFacts,
  main: Candidate | undefined,
  accepted: readonly Candidate[],
): Candidate[] {
  return accepted.flatMap((one) => {
    if (one.release.testing !== true) return [];
    if (main === undefined) return [one];
    const failed = facts.quarantine.some(({ toplevel }) => toplevel === one.release.toplevel);
    return failed || !one.onTopOf.includes(main.release.commit) ? [] : [{ ...one, base: main.release }];
  });
}

/** A testing branch that cannot be asked is not gone: only an answer, or a newer release, takes the host off it. */
function waitForTesting(facts: ReleaseFacts, candidate: Candidate): ReleaseDecision | undefined {
  const { applied, mainline } = facts;
  if (applied?.testing !== true || candidate.release.testing === true) return undefined;
  if (candidate.release.commit !== mainline?.commit) return undefined;
  const silent = facts.remotes.find(
    (one) => one.kind === 'unreachable' && isTestingBranch(one.branch, facts.host),
  );
  if (silent === undefined) return undefined;
  const detail = `This host runs a testing release, and ${silent.branch} of ${silent.url} does not answer.`;
  return { kind: 'wait', candidate: undefined, because: { reason: 'unreachable', detail } };
}

/** The verdict on each remote alone, for the status: undefined when its release may be taken. */
export function weighRemotes(facts: ReleaseFacts): readonly (Because | undefined)[] {
  return facts.remotes.map((remote) => {
    const weighed = weighRemote(facts, remote);
    return 'accepted' in weighed ? undefined : weighed.because;
  });
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
    const detail = `Release ${release.serial} (${shortCommit(release.commit)}) is what this host runs.`;
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
  const what = release.testing === true ? 'Testing release' : 'Release';
  const detail = `${what} ${release.serial} (${shortCommit(release.commit)}) brings a new system.`;
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
