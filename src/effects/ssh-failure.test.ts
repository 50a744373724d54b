import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sshFailure } from './ssh-failure.ts';
import { parseSshTarget } from './ssh-target.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS';
const EXPECTED = 'SHA256:qH8baHrA5X0qCBovKCZyM02Q7TFtK4GMqVgOo4TZJAE';
const target = { ...parseSshTarget('10.0.0.1', 'web1'), hostKeys: [KEY] };

// As printed by OpenSSH 9.2.
const CHANGED = `@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
The fingerprint for the ED25519 key sent by the remote host is
SHA256:0000000000000000000000000000000000000000000.
Host key verification failed.`;

test('sshFailure() shows both fingerprints of a wrong host key', () => {
  const error = sshFailure(target, CHANGED);
  assert.equal(error.code, 'host_key_mismatch');
  assert.ok(error.message.includes(`SHA256:${'0'.repeat(43)}`) && error.message.includes(EXPECTED));
  assert.match(error.next ?? '', /slipway\.hosts\.web1\.publicKey/);
});

test('sshFailure() tells an unknown host key from a wrong one', () => {
  const error = sshFailure(
    { ...target, hostKeys: [] },
    'No ED25519 host key is known for 10.0.0.1 and you have requested strict checking.\nHost key verification failed.',
  );
  assert.equal(error.code, 'host_key_mismatch');
  assert.match(error.message, /not known here/);
});

test('sshFailure() calls a refused login by its name', () => {
  const error = sshFailure(target, 'root@10.0.0.1: Permission denied (publickey).');
  assert.equal(error.code, 'unauthorized');
  assert.match(error.next ?? '', /authorizedKeys/);
});

test('sshFailure() counts everything else as unreachable and quotes ssh', () => {
  const lines = [
    'ssh: connect to host 10.0.0.1 port 22: Connection refused',
    'ssh: Could not resolve hostname web1: Name or service not known',
    'Connection timed out during banner exchange',
  ];
  for (const line of lines) {
    const error = sshFailure(target, `${line}\n`);
    assert.equal(error.code, 'host_unreachable');
    assert.ok(error.message.includes(line));
  }
  assert.match(sshFailure(target, '').message, /closed without a word/);
});
