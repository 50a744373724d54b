import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { resolveRepositories } from './resolve-repositories.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'slipway-resolve-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function git(...args: readonly string[]): void {
  const identity = ['-c', 'user.name=t', '-c', 'user.email=t@example.org'];
  execFileSync('git', ['-C', folder, ...identity, ...args], { stdio: 'ignore' });
}

git('init', '--bare', '--initial-branch=master', 'bare.git');
git('init', '--initial-branch=trunk', 'work');
git('-C', 'work', 'commit', '--allow-empty', '-m', 'one');
git('-C', 'work', 'push', '../bare.git', 'trunk:main');
git('init', 'empty');

test('resolveRepositories() takes main of a bare repository whose HEAD names a branch that nobody pushed', async () => {
  const repository = path.join(folder, 'bare.git');
  const { sourceBranch, remote } = await resolveRepositories({ repository });
  assert.deepEqual([sourceBranch, remote.url], ['main', repository]);
});

test('resolveRepositories() takes what a checkout has checked out', async () => {
  const { sourceBranch } = await resolveRepositories({ repository: path.join(folder, 'work') });
  assert.equal(sourceBranch, 'trunk');
});

test('resolveRepositories() says that a checkout has no commit yet', async () => {
  await assert.rejects(resolveRepositories({ repository: path.join(folder, 'empty') }), /no commit yet/);
});
