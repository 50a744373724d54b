import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostFacts } from './host-facts.ts';
import { syncStatus, type SyncFacts } from './sync-status.ts';

const top = (letter: string): string => `/nix/store/${letter.repeat(32)}-nixos-system-pi1`;
const [A, B, C] = [top('a'), top('b'), top('c')];
const release = (serial: number, toplevel: string): SyncFacts['applied'] => ({
  serial,
  commit: String(serial).repeat(40),
  toplevel,
});

function host(change: Partial<HostFacts> = {}): HostFacts {
  return {
    current: A,
    booted: A,
    profile: A,
    bootDefault: undefined,
    generation: 1,
    bootId: 'boot',
    rebootRequired: false,
    ...change,
  };
}

function facts(change: Partial<SyncFacts> = {}): SyncFacts {
  return {
    host: host(),
    desired: release(1, A),
    applied: release(1, A),
    suspended: false,
    operation: 'idle',
    quarantined: false,
    refused: false,
    systemHealthy: true,
    ...change,
  };
}

const TABLE: readonly (readonly [string, Partial<SyncFacts>, string, string, string])[] = [
  ['in sync', {}, 'synced', 'healthy', ''],
  ['a new release', { desired: release(2, B) }, 'out-of-sync', 'healthy', 'new-release'],
  ['a new release of the same system', { desired: release(2, A) }, 'synced', 'healthy', ''],
  ['`test` by hand', { host: host({ current: C }) }, 'out-of-sync', 'healthy', 'local-test'],
  ['`switch` by hand', { host: host({ current: C, profile: C }) }, 'out-of-sync', 'healthy', 'local-switch'],
  [
    'another boot default',
    { host: host({ bootDefault: C }) },
    'out-of-sync',
    'healthy',
    'boot-default-differs',
  ],
  [
    'a new kernel that was not booted',
    { host: host({ rebootRequired: true }) },
    'synced',
    'healthy',
    'reboot-required',
  ],
  [
    'a trial under way',
    { desired: release(2, B), operation: 'trial', host: host({ current: B }) },
    'out-of-sync',
    'progressing',
    'new-release',
  ],
  [
    'a quarantined release',
    { desired: release(2, B), quarantined: true },
    'out-of-sync',
    'healthy',
    'new-release quarantined',
  ],
  ['a refused release', { desired: undefined, refused: true }, 'out-of-sync', 'healthy', 'release-refused'],
  ['a failed unit', { systemHealthy: false }, 'synced', 'degraded', ''],
  ['an unknown systemd', { systemHealthy: undefined }, 'synced', 'unknown', ''],
  ['suspended', { suspended: true }, 'synced', 'suspended', ''],
  ['nothing seen yet', { desired: undefined, applied: undefined }, 'unknown', 'healthy', ''],
  ['no system link', { host: host({ current: undefined }) }, 'unknown', 'healthy', 'local-test'],
];

for (const [name, change, sync, health, reasons] of TABLE) {
  test(`syncStatus() of ${name}`, () => {
    const status = syncStatus(facts(change));
    assert.equal(status.sync, sync);
    assert.equal(status.health, health);
    assert.equal(status.reasons.join(' '), reasons);
  });
}
