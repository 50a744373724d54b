import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunStatus } from '../api/fleet-status.ts';
import { repositoryConfig } from '../api/server-config.ts';
import { dataPaths } from './data-directory.ts';
import { runArguments } from './run-child.ts';

const plane = {
  paths: dataPaths('/d'),
  keys: {
    releaseKeyFile: '/d/keys/release-signing.key',
    releasePublicKey: 'r:x',
    rekeyIdentityFile: '/d/keys/rekey.key',
    rekeyRecipient: 'age1x',
    webhookSecretFile: '/d/keys/webhook.secret',
    adminTokenFile: '/d/keys/admin.token',
    viewTokenFile: '/d/keys/view.token',
    runnerTokenFile: '/d/keys/runner.token',
  },
  publicUrl: 'http://10.0.0.1:7480',
  caches: [{ name: 'main', publicKeys: ['main-1:x'] }],
};
const repository = repositoryConfig.parse({
  name: 'homelab',
  url: 'https://forge.example.org/me/fleet.git',
  credentials: 'file:/etc/token',
});

function run(trigger: RunStatus['trigger']): RunStatus {
  const at = '2026-11-21T08:00:00.000Z';
  const commit = 'a'.repeat(40);
  return {
    id: '1',
    repository: 'homelab',
    branch: 'main',
    commit,
    trigger,
    reason: '',
    state: 'running',
    note: '',
    createdAt: at,
  };
}

test('runArguments() names files for every secret', () => {
  const words = runArguments({ plane, repository, run: run('webhook') }).join(' ');
  assert.match(
    words,
    /^ci run --json --repository https:\/\/forge\.example\.org\/me\/fleet\.git --source-branch main /,
  );
  assert.match(words, /--git-token-file \/etc\/token /);
  assert.match(words, /--cache http:\/\/10\.0\.0\.1:7480\/main --cache-token-file \/d\/keys\/runner\.token /);
  assert.match(words, /--cache-public-key main-1:x$/);
});

test('runArguments() pins the commit of a run that was started by hand, and takes the tip for all others', () => {
  assert.ok(runArguments({ plane, repository, run: run('manual') }).includes('--commit'));
  for (const trigger of ['webhook', 'poll'] as const) {
    assert.ok(!runArguments({ plane, repository, run: run(trigger) }).includes('--commit'));
  }
});
