import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { parseFleetFacts } from './fleet-facts.ts';

const BARE = { sourceRoot: '/nix/store/x-source', hosts: ['b', 'a'], slipway: null, nodes: {} };

test('parseFleetFacts() gives hosts without settings the mode manual', () => {
  const { hosts, config } = parseFleetFacts(BARE);
  assert.deepEqual([...hosts.keys()], ['a', 'b']);
  assert.equal(hosts.get('a')?.mode, 'manual');
  assert.equal(config.release.branch, 'release');
});

test('parseFleetFacts() reads deploy-rs nodes when there is no slipway output', () => {
  const nodes = { a: { hostname: 'a.example.org', user: 'deploy' }, other: { hostname: null, user: null } };
  const { hosts } = parseFleetFacts({ ...BARE, nodes });
  const a = hosts.get('a');
  assert.deepEqual([a?.mode, a?.targetHost, a?.targetUser], ['push', 'a.example.org', 'deploy']);
  assert.equal(hosts.get('b')?.mode, 'manual');
});

test('parseFleetFacts() says every place where the slipway output is wrong', () => {
  const slipway = { hosts: { a: { wave: 'first', modus: 'pull' } }, caches: 'main' };
  assert.throws(
    () => parseFleetFacts({ ...BARE, slipway }),
    (error) =>
      isCode(error, 'invalid') &&
      /hosts\.a\.wave: expected/.test(error.message) &&
      /unknown key modus/.test(error.message) &&
      /caches: expected array/.test(error.message),
  );
});

test('parseFleetFacts() refuses hosts that are not there, no hosts at all, and hostile names', () => {
  const wrong = [
    { ...BARE, slipway: { hosts: { c: {} } } },
    { ...BARE, hosts: [] },
    { ...BARE, hosts: ['a', '../b'] },
    { ...BARE, hosts: ['-rf'] },
  ];
  for (const value of wrong)
    assert.throws(
      () => parseFleetFacts(value),
      (error) => isCode(error, 'invalid'),
    );
});
