import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { healthConfig } from '../api/fleet-config.ts';
import { formatChecks, formatIntent, longestTrial, planIntent } from './trial-intent.ts';

const TOPLEVEL = '/nix/store/0c6bcpn3s8z9q5xgsv8bnrhfm7mfmyqw-nixos-system-web1-v1';
const FACTS = {
  id: '01m7ykn0sgrgqshv9ax5p6wcgz',
  host: 'web1',
  origin: 'push',
  token: 'secret',
  now: new Date(0),
} as const;
const health = healthConfig.parse({});

test('planIntent() fills in the default time limits and only the hash of the token', () => {
  const intent = planIntent({ toplevel: TOPLEVEL, release: 'abc', health }, FACTS);
  assert.equal(intent.activationTimeout, 240);
  assert.equal(intent.generation, 0);
  assert.equal(intent.tokenHash, createHash('sha256').update('secret').digest('hex'));
  assert.ok(!formatIntent(intent).includes('secret'));
});

test('planIntent() refuses a toplevel that is not a store path', () => {
  assert.throws(() => planIntent({ toplevel: '/nix/store/../etc', release: 'abc', health }, FACTS));
});

test('formatIntent() writes one key a line, as the runner reads them', () => {
  const text = formatIntent(planIntent({ toplevel: TOPLEVEL, release: 'abc', health }, FACTS));
  for (const line of text.trim().split('\n').slice(1, -1))
    assert.match(line, /^ {2}"[a-zA-Z]+": ("[^"\\]*"|\d+),?$/);
});

test('formatChecks() writes one check a line', () => {
  const checks = formatChecks(
    healthConfig.parse({
      units: ['a.service'],
      tcp: [{ port: 22 }],
      http: [{ url: 'http://[::1]/x', status: 204 }],
      commands: ['test -e "/a b"'],
    }),
  );
  assert.equal(checks, 'unit a.service\ntcp 127.0.0.1 22\nhttp 204 http://[::1]/x\ncommand test -e "/a b"\n');
});

test('longestTrial() is longer than any way through the trial', () => {
  const intent = planIntent({ toplevel: TOPLEVEL, release: 'abc', health }, FACTS);
  const { lockTimeout, activationTimeout, healthTimeout, confirmTimeout, commitTimeout, rollbackTimeout } =
    intent;
  const worst = lockTimeout + activationTimeout + healthTimeout * 2 + confirmTimeout + commitTimeout * 2;
  assert.ok(longestTrial(intent) > worst + rollbackTimeout * 2);
});
