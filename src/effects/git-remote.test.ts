import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ErrorCode } from '../util/errors.ts';
import { connectionFailed, openGitConnection, parseGitRemote } from './git-remote.ts';

const SSH = parseGitRemote('git@forge.lab:fleet.git');
const HTTP = parseGitRemote('https://forge.lab/fleet.git');

function codeOf(remote: typeof SSH, stderr: string): ErrorCode {
  return connectionFailed(remote, ['fetch'], { code: 128, stdout: Buffer.alloc(0), stderr }).code;
}

test('connectionFailed() finds the cause in what git and ssh say', () => {
  const rest = '\nfatal: Could not read from remote repository.\n';
  const cases: readonly (readonly [ErrorCode, typeof SSH, string])[] = [
    [
      'host_key_mismatch',
      SSH,
      `No ED25519 host key is known for forge.lab\nHost key verification failed.${rest}`,
    ],
    ['host_key_mismatch', SSH, `@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @${rest}`],
    ['unauthorized', SSH, `git@forge.lab: Permission denied (publickey).${rest}`],
    ['unauthorized', HTTP, "fatal: Authentication failed for 'https://forge.lab/fleet.git/'\n"],
    [
      'unauthorized',
      HTTP,
      "fatal: could not read Username for 'https://forge.lab': terminal prompts disabled\n",
    ],
    [
      'unauthorized',
      HTTP,
      "fatal: unable to access 'https://forge.lab/': The requested URL returned error: 403\n",
    ],
    ['unavailable', SSH, `ssh: connect to host forge.lab port 22: Connection refused${rest}`],
    [
      'unavailable',
      HTTP,
      "fatal: unable to access 'https://forge.lab/': Could not resolve host: forge.lab\n",
    ],
    ['repository_unusable', HTTP, "fatal: repository 'https://forge.lab/fleet.git/' not found\n"],
    ['repository_unusable', SSH, `fatal: 'fleet.git' does not appear to be a git repository${rest}`],
  ];
  for (const [code, remote, stderr] of cases) assert.equal(codeOf(remote, stderr), code, stderr);
});

test('openGitConnection() puts no token into settings or environment', async () => {
  const remote = parseGitRemote('https://forge.lab/fleet.git', { readToken: async () => 'slw_canary' });
  const { settings, options } = await openGitConnection(remote);
  assert.equal(JSON.stringify([settings, options.env]).includes('canary'), false);
  assert.equal(options.secret, 'username=slipway\npassword=slw_canary\n');
  assert.match(settings.join(' '), /credential\.https:\/\/forge\.lab\.helper=/);
});

test('openGitConnection() quotes the names of ssh files and takes no other key', async () => {
  const remote = parseGitRemote('git@forge.lab:fleet.git', {
    sshKeyFile: "/keys/o'k",
    knownHostsFile: '/keys/known',
  });
  const command = (await openGitConnection(remote)).options.env?.['GIT_SSH_COMMAND'] ?? '';
  assert.match(command, /'-i' '\/keys\/o'\\''k' '-o' 'IdentitiesOnly=yes'/);
  assert.match(command, /'UserKnownHostsFile=\/keys\/known' '-o' 'StrictHostKeyChecking=yes'/);
});
