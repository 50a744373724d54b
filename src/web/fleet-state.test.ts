import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostStatus } from '../api/fleet-status.ts';
import { applyMessage, EMPTY_FLEET, headline, worstFirst } from './fleet-state.ts';

const now = Date.parse('2026-11-21T08:00:00.000Z');

function host(name: string, more: Partial<HostStatus> = {}): HostStatus {
  return {
    name,
    mode: 'push',
    sync: 'synced',
    health: 'healthy',
    operation: 'idle',
    note: '',
    quarantined: 0,
    serial: 12,
    updatedAt: new Date(now).toISOString(),
    ...more,
  };
}

function said(...hosts: HostStatus[]): string {
  return headline({ ...EMPTY_FLEET, hosts }, now).text;
}

test('headline() names the worst that there is', () => {
  const fine = host('web1');
  const silent = host('pi1', { silentAfter: '2026-11-21T07:59:00.000Z' });
  assert.equal(said(fine, host('web2')), 'All 2 hosts run release 12');
  assert.equal(said(fine, host('web2', { sync: 'out-of-sync' })), 'web2 is not on the release');
  assert.equal(said(fine, host('web2', { operation: 'trial' })), 'web2 is changing');
  assert.equal(said(fine, silent), 'pi1 is silent');
  assert.equal(
    said(silent, host('a', { health: 'degraded' }), host('b', { health: 'degraded' })),
    'a and b are degraded',
  );
});

test('headline() leaves out hosts that are kept by hand', () => {
  assert.equal(
    said(host('web1'), host('forge1', { mode: 'manual', sync: 'unknown' })),
    'web1 runs release 12',
  );
  assert.equal(said(), 'Waiting for the first host');
});

test('worstFirst() puts the hosts that want a look first, and keeps the order of the rest', () => {
  const hosts = [
    host('a'),
    host('b', { operation: 'trial' }),
    host('c', { mode: 'manual', sync: 'unknown', health: 'unknown' }),
    host('d', { sync: 'out-of-sync' }),
    host('e', { silentAfter: '2026-11-21T07:59:00.000Z' }),
    host('f', { health: 'degraded' }),
    host('g'),
  ];
  assert.equal(
    worstFirst(hosts, now)
      .map(({ name }) => name)
      .join(''),
    'fedbagc',
  );
});

test('applyMessage() replaces a host, adds a new one, and sorts by name as people count', () => {
  let state = EMPTY_FLEET;
  for (const one of [host('pi10'), host('pi2'), host('pi10', { sync: 'unknown' })]) {
    state = applyMessage(state, { name: 'host', data: one });
  }
  assert.deepEqual(
    state.hosts.map((one) => [one.name, one.sync]),
    [
      ['pi2', 'synced'],
      ['pi10', 'unknown'],
    ],
  );
});
