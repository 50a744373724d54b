import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostConfig } from '../api/fleet-config.ts';
import {
  fingerprintOf,
  formatKnownHosts,
  parseSshTarget,
  sshDestination,
  sshOptions,
  sshTargetOf,
} from './ssh-target.ts';

// From `ssh-keygen -l` of OpenSSH 9.2 on this very key.
const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS';
const FINGERPRINT = 'SHA256:qH8baHrA5X0qCBovKCZyM02Q7TFtK4GMqVgOo4TZJAE';

test('sshTargetOf() takes address, user, port and ssh keys from the fleet', () => {
  const config = hostConfig.parse({ targetHost: '10.0.0.1', targetPort: 2222, publicKey: [KEY, 'age1xyz'] });
  const target = sshTargetOf('web1', config);
  assert.deepEqual(
    [target.address, target.user, target.port, target.hostKeys],
    ['10.0.0.1', 'root', 2222, [KEY]],
  );
  assert.equal(sshTargetOf('web1', hostConfig.parse({})).address, 'web1');
});

function parts(text: string): unknown[] {
  const { user, address, port } = parseSshTarget(text);
  return [user, address, port];
}

test('parseSshTarget() reads users, ports and IPv6 addresses', () => {
  assert.deepEqual(parts('web1'), ['root', 'web1', 22]);
  assert.deepEqual(parts('admin@10.0.0.1:2222'), ['admin', '10.0.0.1', 2222]);
  assert.deepEqual(parts('root@[fe80::1]:22'), ['root', 'fe80::1', 22]);
  assert.deepEqual(parts('fe80::1'), ['root', 'fe80::1', 22]);
  for (const bad of ['', 'a b', 'root@', '-oProxyCommand=x', 'web1:99999', 'x@y@z'])
    assert.throws(() => parseSshTarget(bad), /not an ssh destination/, bad);
});

test('sshOptions() puts what must hold before what the fleet may add', () => {
  const target = { ...parseSshTarget('10.0.0.1', 'web1'), hostKeys: [KEY], options: ['-o', 'BatchMode=no'] };
  const words = sshOptions(target, { knownHosts: '/k', control: undefined });
  assert.ok(words.indexOf('BatchMode=yes') < words.indexOf('BatchMode=no'), 'the first value wins');
  assert.ok(words.includes('StrictHostKeyChecking=yes') && words.includes('HostKeyAlias=web1'));
  assert.ok(words.includes('ControlPath=none'));
  const free = sshOptions({ ...target, hostKeys: [] }, { knownHosts: '/k', control: '/c' });
  assert.ok(!free.includes('StrictHostKeyChecking=yes') && free.includes('ControlPath=/c'));
});

test('sshDestination() names an IPv6 host by its name, for Nix', () => {
  const target = parseSshTarget('fe80::1', 'web1');
  assert.equal(sshDestination(target), 'web1');
  assert.ok(sshOptions(target, { knownHosts: '/k', control: undefined }).includes('HostName=fe80::1'));
});

test('fingerprintOf() and formatKnownHosts() agree with OpenSSH', () => {
  assert.equal(fingerprintOf(`${KEY} a comment`), FINGERPRINT);
  const target = { ...parseSshTarget('10.0.0.1', 'web1'), hostKeys: [`${KEY} a comment`] };
  assert.equal(formatKnownHosts(target), `web1 ${KEY}\n`);
});
