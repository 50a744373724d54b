import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { isCode } from '../util/errors.ts';
import { assertClean, readLocalRepository } from './git.ts';
import { clearGitLeftovers, fetchBranches, openGitMirror, pushBranches } from './git-mirror.ts';
import { parseGitRemote } from './git-remote.ts';
import {
  commitTree,
  findObject,
  isAncestor,
  listTree,
  readBlobs,
  readCommit,
  writeBlobs,
  writeFlatTree,
  writeTree,
} from './git-tree.ts';

const AT = new Date('2026-11-21T08:00:00Z');

function temporary(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-git-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function git(cwd: string, ...args: string[]): string {
  const identity = ['-c', 'user.name=Ada', '-c', 'user.email=ada@example.org', '-c', 'commit.gpgsign=false'];
  return execFileSync('git', [...identity, ...args], { cwd, encoding: 'utf8', stdio: 'pipe' }).trim();
}

/** A bare origin with one commit on main, and a mirror of it. */
async function world(
  t: TestContext,
): Promise<{ origin: string; mirror: string; work: string; main: string }> {
  const folder = temporary(t);
  const work = join(folder, 'work');
  mkdirSync(join(work, 'secrets'), { recursive: true });
  git(folder, 'init', '-q', '-b', 'main', work);
  writeFileSync(join(work, 'flake.nix'), '{ }\n');
  writeFileSync(join(work, 'secrets', 'a.age'), 'ciphertext');
  git(work, 'add', '.');
  git(work, 'commit', '-q', '-m', 'first');
  const origin = join(folder, 'origin.git');
  git(folder, 'clone', '-q', '--bare', work, origin);
  git(work, 'remote', 'add', 'origin', origin);
  const mirror = await openGitMirror(join(folder, 'mirror.git'));
  return { origin, mirror, work, main: git(work, 'rev-parse', 'HEAD') };
}

async function releaseOn(mirror: string, base: string, parents: readonly string[]): Promise<string> {
  const [oid = ''] = await writeBlobs(mirror, [Buffer.from(`rekeyed ${parents.length} ${parents[0] ?? ''}`)]);
  const tree = await writeTree(mirror, base, [{ path: 'secrets/a.age', oid, mode: '100644' }]);
  return await commitTree(mirror, { tree, parents, message: 'release\n\nSlipway-Source: x\n', at: AT });
}

test('fetchBranches() returns the tips, and leaves out a branch that the remote lacks', async (t) => {
  const { origin, mirror, main } = await world(t);
  const remote = parseGitRemote(origin);
  assert.deepEqual(await fetchBranches(mirror, remote), new Map([['main', main]]));
  const some = await fetchBranches(mirror, remote, { branches: ['release', 'main', 'release-manifest'] });
  assert.deepEqual(some, new Map([['main', main]]));
});

test('fetchBranches() forgets a branch that was deleted on the remote', async (t) => {
  const { origin, mirror, work } = await world(t);
  git(work, 'push', '-q', 'origin', 'main:refs/heads/release');
  const branches = ['main', 'release'];
  assert.equal((await fetchBranches(mirror, parseGitRemote(origin), { branches })).has('release'), true);
  git(work, 'push', '-q', 'origin', ':refs/heads/release');
  assert.equal((await fetchBranches(mirror, parseGitRemote(origin), { branches })).has('release'), false);
});

test('writeTree() changes only what it is told, without a checkout', async (t) => {
  const { origin, mirror, main } = await world(t);
  await fetchBranches(mirror, parseGitRemote(origin));
  const [oid = ''] = await writeBlobs(mirror, [Buffer.from([0, 10, 255]), Buffer.alloc(0)]);
  const tree = await writeTree(mirror, main, [
    { path: 'deep/er/b.age', oid, mode: '100644' },
    { path: 'secrets/a.age', remove: true },
    { path: 'never/there', remove: true },
  ]);
  assert.deepEqual(
    (await listTree(mirror, tree)).map(({ path, mode }) => `${mode} ${path}`),
    ['100644 deep/er/b.age', '100644 flake.nix'],
  );
  const blobs = await readBlobs(mirror, [`${tree}:deep/er/b.age`, `${tree}:gone`, `${main}:flake.nix`]);
  assert.deepEqual(
    blobs.map((blob) => blob?.toString('latin1')),
    ['\0\n\u00ff', undefined, '{ }\n'],
  );
});

test('writeTree() refuses a path that leaves the tree', async (t) => {
  const { origin, mirror, main } = await world(t);
  await fetchBranches(mirror, parseGitRemote(origin));
  const [oid = ''] = await writeBlobs(mirror, [Buffer.from('x')]);
  for (const path of ['../out', '.git/config', '/etc/passwd'])
    await assert.rejects(writeTree(mirror, main, [{ path, oid, mode: '100644' }]), (error) =>
      isCode(error, 'invalid'),
    );
});

test('pushBranches() creates and fast-forwards branches together', async (t) => {
  const { origin, mirror, main } = await world(t);
  const remote = parseGitRemote(origin);
  await fetchBranches(mirror, remote);
  const first = await releaseOn(mirror, main, [main]);
  const note = await commitTree(mirror, {
    tree: await writeFlatTree(mirror, {
      'manifest.json': Buffer.from('{}'),
      'manifest.json.sig': Buffer.from('s'),
    }),
    parents: [],
    message: 'manifest 1\n',
    at: AT,
  });
  await pushBranches(mirror, remote, [
    { branch: 'release', from: undefined, to: first },
    { branch: 'release-manifest', from: undefined, to: note },
  ]);
  const second = await releaseOn(mirror, main, [first, main]);
  await pushBranches(mirror, remote, [{ branch: 'release', from: first, to: second }]);
  const tips = await fetchBranches(mirror, remote);
  assert.equal(tips.get('release'), second);
  assert.equal(tips.get('release-manifest'), note);
  const facts = await readCommit(mirror, second);
  assert.deepEqual(facts.parents, [first, main]);
  assert.equal(facts.subject, 'release');
  assert.equal(facts.committedAt, AT.getTime() / 1000);
  assert.equal(await isAncestor(mirror, first, second), true);
  assert.equal(await findObject(mirror, 'refs/heads/none'), undefined);
});

test('pushBranches() changes nothing when one of the branches moved meanwhile', async (t) => {
  const { origin, mirror, main, work } = await world(t);
  const remote = parseGitRemote(origin);
  await fetchBranches(mirror, remote);
  const mine = await releaseOn(mirror, main, [main]);
  git(work, 'push', '-q', 'origin', 'main:refs/heads/release');
  await assert.rejects(
    pushBranches(mirror, remote, [
      { branch: 'release', from: undefined, to: mine },
      { branch: 'release-manifest', from: undefined, to: mine },
    ]),
    (error) => isCode(error, 'publish_conflict') && /moved/.test(error.message),
  );
  const tips = await fetchBranches(mirror, remote);
  assert.equal(tips.get('release'), main);
  assert.equal(tips.has('release-manifest'), false);
});

test('pushBranches() refuses to rewrite a branch, even when the lease would hold', async (t) => {
  const { origin, mirror, main } = await world(t);
  const remote = parseGitRemote(origin);
  await fetchBranches(mirror, remote);
  const first = await releaseOn(mirror, main, [main]);
  await pushBranches(mirror, remote, [{ branch: 'release', from: undefined, to: first }]);
  await assert.rejects(
    pushBranches(mirror, remote, [{ branch: 'release', from: first, to: main }]),
    (error) => isCode(error, 'publish_conflict'),
  );
});

test('pushBranches() reports a hook of the remote that declines', async (t) => {
  const { origin, mirror, main } = await world(t);
  const remote = parseGitRemote(origin);
  await fetchBranches(mirror, remote);
  writeFileSync(join(origin, 'hooks', 'pre-receive'), '#!/bin/sh\necho branch is protected >&2\nexit 1\n', {
    mode: 0o755,
  });
  await assert.rejects(
    pushBranches(mirror, remote, [{ branch: 'release', from: undefined, to: main }]),
    (error) => isCode(error, 'forbidden') && /branch is protected/.test(error.message),
  );
});

test('fetchBranches() names a repository that is missing and one that nobody serves', async (t) => {
  const folder = temporary(t);
  const mirror = await openGitMirror(join(folder, 'mirror.git'));
  const missing = parseGitRemote(join(folder, 'nowhere'));
  await assert.rejects(fetchBranches(mirror, missing), (error) => isCode(error, 'repository_unusable'));
  const dead = parseGitRemote('http://127.0.0.1:9/fleet.git');
  await assert.rejects(fetchBranches(mirror, dead), (error) => isCode(error, 'unavailable'));
});

test('parseGitRemote() tells addresses apart and takes credentials out of URLs', async () => {
  assert.equal(parseGitRemote('git@example.org:a/b.git').kind, 'ssh');
  assert.equal(parseGitRemote('ssh://git@example.org/a/b.git').kind, 'ssh');
  assert.equal(parseGitRemote('/srv/fleet.git').kind, 'local');
  assert.equal(parseGitRemote('file:///srv/my%20fleet.git').url, '/srv/my fleet.git');
  const http = parseGitRemote('https://bot:s3cret@example.org/fleet.git');
  assert.equal(http.url, 'https://example.org/fleet.git');
  assert.equal(await http.access.readToken?.(), 's3cret');
  assert.equal(http.access.username, 'bot');
  for (const bad of ['--upload-pack=x', 'ext::sh -c x', 'ftp://example.org/x', ''])
    assert.throws(
      () => parseGitRemote(bad),
      (error) => isCode(error, 'invalid'),
      bad,
    );
});

test('fetchBranches() sends the token as Basic credentials to its host only, after being asked', async (t) => {
  const folder = temporary(t);
  const seen: (string | undefined)[] = [];
  const server = createServer((request: IncomingMessage, response) => {
    seen.push(request.headers.authorization);
    response.writeHead(401, { 'www-authenticate': 'Basic realm="fleet"' }).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const mirror = await openGitMirror(join(folder, 'mirror.git'));
  const url = `http://127.0.0.1:${port}/fleet.git`;
  const remote = parseGitRemote(url, { readToken: async () => 'slw_canary\n' });
  await assert.rejects(fetchBranches(mirror, remote), (error) => isCode(error, 'unauthorized'));
  const basic = `Basic ${Buffer.from('slipway:slw_canary').toString('base64')}`;
  assert.deepEqual(seen, [undefined, basic]);
});

test('readLocalRepository() tells a working tree from a bare repository and from no repository', async (t) => {
  const { origin, work, main } = await world(t);
  const found = await readLocalRepository(join(work, 'secrets'));
  assert.deepEqual(found, {
    gitDirectory: join(work, '.git'),
    shallow: false,
    head: main,
    workTree: work,
    branch: 'main',
    originUrl: origin,
  });
  assert.equal((await readLocalRepository(origin)).workTree, undefined);
  const nowhere = temporary(t);
  await assert.rejects(readLocalRepository(nowhere), (error) => isCode(error, 'repository_unusable'));
  await assert.rejects(readLocalRepository(join(nowhere, 'x')), (error) =>
    isCode(error, 'repository_unusable'),
  );
});

test('assertClean() names the changed files and lets untracked ones pass', async (t) => {
  const { work } = await world(t);
  writeFileSync(join(work, 'result'), 'untracked');
  await assertClean(work);
  writeFileSync(join(work, 'flake.nix'), '{ changed = true; }\n');
  await assert.rejects(
    assertClean(work),
    (error) => isCode(error, 'repository_unusable') && /flake\.nix/.test(error.message),
  );
});

test('clearGitLeftovers() frees a mirror whose git was killed', async (t) => {
  const { origin, mirror } = await world(t);
  const remote = parseGitRemote(origin);
  mkdirSync(join(mirror, 'refs/remotes/origin'), { recursive: true });
  writeFileSync(join(mirror, 'refs/remotes/origin/main.lock'), '');
  await assert.rejects(fetchBranches(mirror, remote));
  await clearGitLeftovers(mirror);
  assert.equal((await fetchBranches(mirror, remote)).has('main'), true);
});
