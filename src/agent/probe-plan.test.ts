import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBlind, lostProbes, planProbes } from './probe-plan.ts';

const wanted = { remote: true, cache: true, controller: true };
const remotes = [{ url: 'http://forge/fleet.git' }];

test('planProbes() asks each address once, and no cache that is not on the network', () => {
  const caches = [{ url: 'http://cache/main' }, { url: 'http://cache/main' }, { url: 'file:///srv/cache' }];
  const controller = { url: 'http://slipway' };
  const names = planProbes({ remotes, caches, controller, wanted }).map((probe) => probe.name);
  assert.deepEqual(names, [
    'remote http://forge/fleet.git',
    'cache http://cache/main',
    'controller http://slipway',
  ]);
});

test('planProbes() leaves out what is switched off or not configured', () => {
  const none = { remote: false, cache: true, controller: true };
  assert.deepEqual(planProbes({ remotes, caches: [], controller: undefined, wanted: none }), []);
});

test('lostProbes() counts only what passed before', () => {
  assert.deepEqual(lostProbes(['a', 'b'], ['b']), ['a']);
  assert.deepEqual(lostProbes([], []), []);
  assert.deepEqual(lostProbes(['a'], ['a', 'new']), []);
});

test('isBlind() is a host with probes of which none passes', () => {
  const probes = planProbes({ remotes, caches: [], controller: undefined, wanted });
  assert.equal(isBlind(probes, []), true);
  assert.equal(isBlind(probes, ['remote http://forge/fleet.git']), false);
  assert.equal(isBlind([], []), false);
});
