import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ReleaseManifest } from '../api/manifest.ts';
import { chooseRelease } from './choose-release.ts';
import type { ReleaseFacts, RemoteFacts } from './release-facts.ts';

const commit = (letter: string): string => letter.repeat(40);
const toplevel = (letter: string): string => `/nix/store/${letter.repeat(32)}-nixos-system-pi1`;
const OLD = toplevel('a');
const NEW = toplevel('b');
const NOW = new Date('2026-11-21T12:00:00Z');

interface TipOptions {
  readonly url?: string;
  readonly serial?: number;
  readonly descends?: 'yes' | 'no';
  readonly top?: string;
  readonly onTopOf?: readonly string[];
  readonly branch?: string;
  readonly change?: Partial<ReleaseManifest>;
}

function manifestOf(id: string, options: TipOptions): ReleaseManifest {
  return {
    version: 1,
    serial: options.serial ?? 2,
    branch: options.branch ?? 'release',
    commit: id,
    tree: commit('e'),
    source: commit('f'),
    createdAt: '2026-11-21T11:00:00Z',
    hosts: {
      pi1: { system: 'x86_64-linux', toplevel: options.top ?? NEW, mode: 'pull', wave: 1, state: 'built' },
    },
    caches: [],
    ...options.change,
  };
}

function tip(id: string, options: TipOptions = {}): RemoteFacts & { kind: 'tip' } {
  const manifest = manifestOf(id, options);
  return {
    url: options.url ?? 'r1',
    branch: options.branch ?? 'release',
    kind: 'tip',
    commit: id,
    onTopOf: options.onTopOf ?? [],
    descends: options.descends ?? 'yes',
    manifest: { kind: 'trusted', manifest },
  };
}

function facts(change: Partial<ReleaseFacts> = {}): ReleaseFacts {
  const applied = { serial: 1, commit: commit('1'), toplevel: OLD };
  return {
    host: 'pi1',
    now: NOW,
    remotes: [tip(commit('2'))],
    applied,
    mainline: 'applied' in change ? change.applied : applied,
    current: OLD,
    profile: OLD,
    quarantine: [],
    accepted: undefined,
    suspended: undefined,
    hold: undefined,
    retry: undefined,
    maxReleaseAge: 0,
    selfHeal: false,
    ...change,
  };
}

const failed = (top: string): ReleaseFacts['quarantine'][number] => ({
  toplevel: top,
  serial: 2,
  commit: commit('2'),
  reason: 'confirm-timeout',
  detail: 'no network',
  at: NOW.toISOString(),
});

const unreachable = (url: string): RemoteFacts => ({
  url,
  branch: 'release',
  kind: 'unreachable',
  detail: 'refused',
});
const entry = manifestOf(commit('2'), {}).hosts['pi1'];
assert.ok(entry);

/** name, what differs from a host on release 1 that sees a good release 2, verdict, reason. */
const TABLE: readonly (readonly [string, Partial<ReleaseFacts>, string, string])[] = [
  ['takes a newer signed release', {}, 'apply', 'new-release'],
  ['takes the first release on a host without a past', { applied: undefined }, 'apply', 'new-release'],
  ['stays when the host runs it', { current: NEW, profile: NEW }, 'current', 'synced'],
  [
    'tries again when it runs but was never committed',
    { current: NEW, profile: OLD },
    'apply',
    'new-release',
  ],
  [
    'goes on to a release that keeps this host as it is',
    { remotes: [tip(commit('2'), { top: OLD })] },
    'current',
    'synced',
  ],
  ['waits for an unreachable remote', { remotes: [unreachable('r1')] }, 'wait', 'unreachable'],
  [
    'waits for a first release',
    { remotes: [{ url: 'r1', branch: 'release', kind: 'empty' }] },
    'wait',
    'no-release',
  ],
  [
    'refuses a release without a manifest',
    { remotes: [{ ...tip(commit('2')), manifest: { kind: 'missing' } }] },
    'refuse',
    'manifest-missing',
  ],
  [
    'refuses a bad signature',
    { remotes: [{ ...tip(commit('2')), manifest: { kind: 'untrusted', detail: 'is not signed.' } }] },
    'refuse',
    'signature-invalid',
  ],
  [
    'refuses a manifest that is no manifest',
    { remotes: [{ ...tip(commit('2')), manifest: { kind: 'malformed', detail: 'x' } }] },
    'refuse',
    'manifest-malformed',
  ],
  [
    'refuses a manifest of another commit',
    { remotes: [tip(commit('2'), { change: { commit: commit('3') } })] },
    'refuse',
    'other-commit',
  ],
  [
    'refuses a manifest of another branch',
    { remotes: [tip(commit('2'), { change: { branch: 'testing' } })] },
    'refuse',
    'other-branch',
  ],
  [
    'refuses a force-push',
    { remotes: [tip(commit('2'), { descends: 'no' })] },
    'refuse',
    'history-rewritten',
  ],
  [
    'takes a force-push that an operator accepted',
    { remotes: [tip(commit('2'), { descends: 'no', serial: 1 })], accepted: commit('2') },
    'apply',
    'new-release',
  ],
  [
    'refuses a force-push although another commit was accepted',
    { remotes: [tip(commit('2'), { descends: 'no' })], accepted: commit('3') },
    'refuse',
    'history-rewritten',
  ],
  [
    'refuses an older serial (replay)',
    {
      remotes: [tip(commit('1'), { serial: 1 })],
      applied: { serial: 2, commit: commit('2'), toplevel: NEW },
    },
    'refuse',
    'serial-went-back',
  ],
  [
    'refuses a serial used twice',
    { remotes: [tip(commit('2'), { serial: 1 })] },
    'refuse',
    'history-rewritten',
  ],
  [
    'refuses a release without this host',
    { remotes: [tip(commit('2'), { change: { hosts: {} } })] },
    'refuse',
    'host-missing',
  ],
  ['is not fooled by a host named like a method', { host: 'toString' }, 'refuse', 'host-missing'],
  ['refuses what failed before', { quarantine: [failed(NEW)] }, 'refuse', 'quarantined'],
  ['takes a new path although another failed', { quarantine: [failed(OLD)] }, 'apply', 'new-release'],
  ['refuses a release beyond the age limit', { maxReleaseAge: 1800 }, 'refuse', 'too-old'],
  ['takes a release within the age limit', { maxReleaseAge: 7200 }, 'apply', 'new-release'],
  ['waits while suspended', { suspended: { reason: 'debugging', until: undefined } }, 'wait', 'suspended'],
  ['waits while the control plane holds', { hold: 'wave 1 is soaking' }, 'wait', 'held'],
  [
    'waits after a failure that may pass',
    { retry: { toplevel: NEW, notBefore: new Date(NOW.getTime() + 1), note: 'x' } },
    'wait',
    'backing-off',
  ],
  [
    'takes a new path although another backs off',
    { retry: { toplevel: OLD, notBefore: new Date(NOW.getTime() + 1), note: 'x' } },
    'apply',
    'new-release',
  ],
  [
    'goes on when the wait is over',
    { retry: { toplevel: NEW, notBefore: NOW, note: 'x' } },
    'apply',
    'new-release',
  ],
  [
    'is current although suspended when there is nothing to do',
    { current: NEW, profile: NEW, suspended: { reason: 'x', until: undefined } },
    'current',
    'synced',
  ],
  [
    'never moves a manual host',
    { remotes: [tip(commit('2'), { change: { hosts: { pi1: { ...entry, mode: 'manual' } } } })] },
    'wait',
    'not-pull',
  ],
  [
    'leaves a host alone that was switched by hand',
    { applied: { serial: 2, commit: commit('2'), toplevel: NEW }, current: OLD, profile: OLD },
    'wait',
    'drifted',
  ],
  [
    'heals a host that was switched by hand where that is wanted',
    {
      applied: { serial: 2, commit: commit('2'), toplevel: NEW },
      current: OLD,
      profile: OLD,
      selfHeal: true,
    },
    'apply',
    'new-release',
  ],
];

for (const [name, change, kind, reason] of TABLE) {
  test(`chooseRelease() ${name}`, () => {
    const decision = chooseRelease(facts(change));
    assert.deepEqual([decision.kind, decision.because.reason], [kind, reason]);
    assert.notEqual(decision.because.detail, '');
  });
}

// comin's repository_test.go, told for signed releases: which remote is followed when there are several.
const REMOTES: readonly (readonly [string, readonly RemoteFacts[], string, string])[] = [
  [
    'prefers the first remote when both offer the same release',
    [tip(commit('2'), { url: 'r1' }), tip(commit('2'), { url: 'r2' })],
    'apply',
    'r1',
  ],
  [
    'follows the second remote when it is ahead',
    [tip(commit('2'), { url: 'r1' }), tip(commit('3'), { url: 'r2', serial: 3 })],
    'apply',
    'r2',
  ],
  [
    'follows the second remote when the first is unreachable',
    [unreachable('r1'), tip(commit('2'), { url: 'r2' })],
    'apply',
    'r2',
  ],
  [
    'follows the second remote when the first was force-pushed',
    [tip(commit('9'), { url: 'r1', descends: 'no', serial: 9 }), tip(commit('2'), { url: 'r2' })],
    'apply',
    'r2',
  ],
  [
    'ignores a second remote that lags behind',
    [tip(commit('2'), { url: 'r1' }), tip(commit('1'), { url: 'r2', serial: 1, top: OLD })],
    'apply',
    'r1',
  ],
];

for (const [name, remotes, kind, url] of REMOTES) {
  test(`chooseRelease() ${name}`, () => {
    const decision = chooseRelease(facts({ remotes }));
    assert.deepEqual([decision.kind, decision.candidate?.url], [kind, url]);
  });
}

test('chooseRelease() names the remote that refuses rather than the one that is down', () => {
  const remotes = [unreachable('r1'), tip(commit('9'), { url: 'r2', descends: 'no', serial: 9 })];
  assert.equal(chooseRelease(facts({ remotes })).because.reason, 'history-rewritten');
});

// comin's testing branches, with the way back that it has not: release 7 is the main branch, 8 and 9 are tests on pi1.
const TEST = toplevel('t');
const MAIN7 = { serial: 7, commit: commit('7'), toplevel: OLD };
const TEST8 = { serial: 8, commit: commit('8'), toplevel: TEST, testing: true as const };
const main = (id: string, serial: number, options: TipOptions = {}): RemoteFacts =>
  tip(commit(id), { serial, top: serial === 7 ? OLD : NEW, ...options });
const onTest = (
  id: string,
  serial: number,
  onTopOf: readonly string[],
  options: TipOptions = {},
): RemoteFacts =>
  tip(commit(id), {
    serial,
    top: TEST,
    branch: 'release-testing-pi1',
    onTopOf: onTopOf.map(commit),
    ...options,
  });
const runs = (what: 'main' | 'test'): Partial<ReleaseFacts> =>
  what === 'main'
    ? { applied: MAIN7, mainline: MAIN7, current: OLD, profile: OLD }
    : { applied: TEST8, mainline: MAIN7, current: TEST, profile: TEST };
const gone: RemoteFacts = { url: 'r1', branch: 'release-testing-pi1', kind: 'empty' };
const silent: RemoteFacts = { ...unreachable('r1'), branch: 'release-testing-pi1' };

/** name, what the host runs, what the two branches have, verdict, commit of the candidate. */
const TESTING: readonly (readonly [string, 'main' | 'test', readonly RemoteFacts[], string, string?])[] = [
  ['tries a test on top of the release', 'main', [main('7', 7), onTest('8', 8, ['7'])], 'apply', '8'],
  ['stays on the test', 'test', [main('7', 7), onTest('8', 8, ['7'])], 'current', '8'],
  ['goes back when the testing branch is gone', 'test', [main('7', 7), gone], 'apply', '7'],
  ['stays when the testing branch only does not answer', 'test', [main('7', 7), silent], 'wait'],
  ['goes to a newer release all the same', 'test', [main('a', 8), silent], 'apply', 'a'],
  [
    'follows the release that overtakes the test',
    'test',
    [main('a', 8), onTest('8', 8, ['7'])],
    'apply',
    'a',
  ],
  [
    'follows it also when the test was made again below it',
    'test',
    [main('a', 8), onTest('9', 9, ['7'])],
    'apply',
    'a',
  ],
  ['takes the next test', 'test', [main('a', 8), onTest('9', 10, ['7', 'a'])], 'current', '9'],
  ['refuses an older test', 'test', [main('7', 7), onTest('6', 7, ['7'])], 'apply', '7'],
  [
    'refuses a test beside the known release',
    'main',
    [unreachable('r2'), onTest('8', 8, [], { descends: 'no' })],
    'refuse',
  ],
];

for (const [name, what, remotes, kind, letter] of TESTING) {
  test(`chooseRelease() ${name}`, () => {
    const decision = chooseRelease(facts({ ...runs(what), remotes }));
    const wanted = letter === undefined ? undefined : commit(letter);
    assert.deepEqual([decision.kind, decision.candidate?.release.commit], [kind, wanted]);
  });
}

test('chooseRelease() goes on with the main branch when a test has failed on the host', () => {
  const remotes = [main('7', 7), onTest('8', 8, ['7'])];
  const decision = chooseRelease(facts({ ...runs('main'), remotes, quarantine: [failed(TEST)] }));
  assert.deepEqual([decision.kind, decision.candidate?.release.commit], ['current', commit('7')]);
});
