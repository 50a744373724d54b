import assert from 'node:assert/strict';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { formatManifest, signedManifestBytes, type ReleaseManifest } from '../api/manifest.ts';
import { commitTree, setRef, writeFlatTree } from '../effects/git-tree.ts';
import { openGitMirror } from '../effects/git-mirror.ts';
import { generateSecretKey, parseSecretKey, publicKeyOf, signText } from '../nix/signature.ts';
import { chooseRelease } from './choose-release.ts';
import { fetchReleases, openReleaseMirror } from './fetch-release.ts';
import type { ReleaseFacts, RemoteFacts } from './release-facts.ts';
import { parseAgentConfig } from './read-agent-config.ts';
import { verifyManifest } from './verify-manifest.ts';

const SECRET = parseSecretKey(generateSecretKey('release-1'));
const TOP = (letter: string): string => `/nix/store/${letter.repeat(32)}-nixos-system-pi1`;
const NOW = new Date('2026-11-21T12:00:00Z');

/** A repository that releases are published to, with git's own objects, as the pipeline writes them. */
class Origin {
  readonly folder: string;
  #manifestTip: string | undefined;

  constructor(folder: string) {
    this.folder = folder;
  }

  async release(serial: number, parents: readonly string[], sign = SECRET): Promise<string> {
    const tree = await writeFlatTree(this.folder, { serial: Buffer.from(String(serial)) });
    const commit = await commitTree(this.folder, { tree, parents, message: `Release ${serial}`, at: NOW });
    const file = formatManifest(manifestOf(serial, commit, tree));
    const signature = Buffer.from(`${signText(sign, signedManifestBytes(file))}\n`);
    const beside = await writeFlatTree(this.folder, {
      'manifest.json': file,
      'manifest.json.sig': signature,
    });
    const before = this.#manifestTip === undefined ? [] : [this.#manifestTip];
    this.#manifestTip = await commitTree(this.folder, {
      tree: beside,
      parents: before,
      message: 'm',
      at: NOW,
    });
    await setRef(this.folder, 'refs/heads/release', commit);
    await setRef(this.folder, 'refs/heads/release-manifest', this.#manifestTip);
    return commit;
  }
}

function manifestOf(serial: number, commit: string, tree: string): ReleaseManifest {
  const host = { system: 'x86_64-linux', toplevel: TOP('b'), mode: 'pull', wave: 1, state: 'built' } as const;
  return {
    version: 1,
    serial,
    branch: 'release',
    commit,
    tree,
    source: commit,
    createdAt: NOW.toISOString(),
    hosts: { pi1: host },
    caches: [],
  };
}

interface Scene {
  readonly origin: Origin;
  readonly fetch: (applied?: ReleaseFacts['applied']) => Promise<RemoteFacts[]>;
  readonly decide: (applied?: ReleaseFacts['applied']) => Promise<string>;
}

async function withOrigin(work: (scene: Scene) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slipway-fetch-'));
  try {
    const origin = new Origin(await openGitMirror(path.join(folder, 'origin.git')));
    const mirror = await openReleaseMirror(folder);
    const config = parseAgentConfig(
      `host = "pi1"\nreleaseKeys = ["${publicKeyOf(SECRET)}"]\nstateDir = "${folder}"\n[[remotes]]\nurl = "${origin.folder}"\n`,
      'agent.toml',
    );
    const fetch: Scene['fetch'] = async (applied) =>
      await fetchReleases(mirror, config, {
        mainline: applied?.commit,
        isDue: () => true,
        last: [],
        signal: AbortSignal.timeout(30_000),
      });
    const decide: Scene['decide'] = async (applied) => {
      const decision = chooseRelease(factsOf(await fetch(applied), applied));
      return `${decision.kind} ${decision.because.reason}`;
    };
    await work({ origin, fetch, decide });
  } finally {
    await rm(folder, { recursive: true });
  }
}

function factsOf(remotes: readonly RemoteFacts[], applied: ReleaseFacts['applied']): ReleaseFacts {
  return {
    host: 'pi1',
    now: NOW,
    remotes,
    applied,
    mainline: applied,
    current: TOP('a'),
    profile: TOP('a'),
    quarantine: [],
    accepted: undefined,
    suspended: undefined,
    hold: undefined,
    retry: undefined,
    maxReleaseAge: 0,
    selfHeal: false,
  };
}

test('fetchReleases() brings a release with its verified manifest, and the next one on top of it', async () => {
  await withOrigin(async ({ origin, decide, fetch }) => {
    assert.equal(await decide(), 'wait no-release');
    const first = await origin.release(1, []);
    assert.equal(await decide(), 'apply new-release');
    const applied = { serial: 1, commit: first, toplevel: TOP('a') };
    const second = await origin.release(2, [first]);
    const [facts] = await fetch(applied);
    assert.ok(facts?.kind === 'tip');
    assert.deepEqual([facts.commit, facts.descends, facts.manifest.kind], [second, 'yes', 'trusted']);
    assert.equal(await decide(applied), 'apply new-release');
  });
});

test('fetchReleases() sees that a history was rewritten, also when the old commit is gone everywhere else', async () => {
  await withOrigin(async ({ origin, decide }) => {
    const first = await origin.release(1, []);
    const applied = { serial: 1, commit: first, toplevel: TOP('a') };
    await decide(applied);
    await origin.release(2, []);
    assert.equal(await decide(applied), 'refuse history-rewritten');
    assert.equal(await decide({ ...applied, commit: '9'.repeat(40) }), 'refuse history-rewritten');
  });
});

test('fetchReleases() tells a stranger’s signature, and a missing repository, as facts', async () => {
  await withOrigin(async ({ origin, decide, fetch }) => {
    await origin.release(1, [], parseSecretKey(generateSecretKey('mallory')));
    assert.equal(await decide(), 'refuse signature-invalid');
    await rename(origin.folder, `${origin.folder}.away`);
    const [facts] = await fetch();
    assert.ok(facts?.kind === 'unreachable');
    assert.match(facts.detail, /no git repository/);
  });
});

test('fetchReleases() forgets a release branch that is gone', async () => {
  await withOrigin(async ({ origin, decide }) => {
    await origin.release(1, []);
    assert.equal(await decide(), 'apply new-release');
    await setRef(origin.folder, 'refs/heads/release', undefined);
    assert.equal(await decide(), 'wait no-release');
  });
});

const FILE = formatManifest(manifestOf(1, 'a'.repeat(40), 'b'.repeat(40)));
const sign = (file: Uint8Array, key = SECRET): Uint8Array =>
  Buffer.from(`${signText(key, signedManifestBytes(file))}\n`);
const KEYS = [publicKeyOf(SECRET)];

const VERDICTS: readonly (readonly [
  string,
  Uint8Array | undefined,
  Uint8Array | undefined,
  string,
  RegExp,
])[] = [
  ['a good signature', FILE, sign(FILE), 'trusted', /^$/],
  ['no file', undefined, sign(FILE), 'missing', /^$/],
  ['no signature', FILE, undefined, 'untrusted', /not signed/],
  ['an empty signature', FILE, Buffer.from('\n'), 'untrusted', /signed by nobody/],
  [
    'a changed byte',
    Buffer.concat([FILE, Buffer.from(' ')]),
    sign(FILE),
    'untrusted',
    /bad signature of release-1/,
  ],
  [
    'a stranger’s signature',
    FILE,
    sign(FILE, parseSecretKey(generateSecretKey('mallory'))),
    'untrusted',
    /signed by mallory, and this agent trusts only release-1/,
  ],
  [
    'another key of the same name',
    FILE,
    sign(FILE, parseSecretKey(generateSecretKey('release-1'))),
    'untrusted',
    /bad signature of release-1/,
  ],
  [
    'a signature over the file alone',
    FILE,
    Buffer.from(signText(SECRET, FILE)),
    'untrusted',
    /bad signature/,
  ],
  [
    'a signed file that is no manifest',
    Buffer.from('{}'),
    sign(Buffer.from('{}')),
    'malformed',
    /understands/,
  ],
  [
    'two signatures, of which one is trusted',
    FILE,
    Buffer.concat([sign(FILE, parseSecretKey(generateSecretKey('old'))), sign(FILE)]),
    'trusted',
    /^$/,
  ],
];

for (const [name, file, signature, kind, detail] of VERDICTS) {
  test(`verifyManifest() of ${name}: ${kind}`, () => {
    const facts = verifyManifest(file, signature, KEYS);
    assert.equal(facts.kind, kind);
    assert.match('detail' in facts ? facts.detail : '', detail);
  });
}
