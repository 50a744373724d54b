import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fleetConfig, type HostConfig, hostConfig } from '../api/fleet-config.ts';
import type { ManifestHost, ReleaseManifest } from '../api/manifest.ts';
import { SlipwayError } from '../util/errors.ts';
import type { HostResult } from './evaluate-hosts.ts';
import type { ToplevelFacts } from './host-facts.ts';
import { planManifest, sameHosts } from './plan-manifest.ts';
import { describePlans, findBlocker, type HostPlan, planRelease, requiredFailure } from './plan-release.ts';
import { planWaves } from './plan-waves.ts';

const NATIVE = 'x86_64-linux';
const COMMIT = 'a'.repeat(40);

function path(name: string): string {
  return `/nix/store/${name.padEnd(32, '0').slice(0, 32)}-nixos-system-${name}`;
}

function facts(name: string, system = NATIVE): ToplevelFacts {
  return { drvPath: `${path(name)}.drv`, outPath: path(name), system };
}

function ok(host: string, value: ToplevelFacts): HostResult<ToplevelFacts> {
  return { host, ok: true, value, ms: 1 };
}

function failed(host: string): HostResult<ToplevelFacts> {
  return { host, ok: false, error: new SlipwayError('evaluation_failed', 'broken'), ms: 1 };
}

function entry(name: string, changes: Partial<ManifestHost> = {}): ManifestHost {
  return { system: NATIVE, toplevel: path(name), mode: 'push', wave: 1, state: 'built', ...changes };
}

function manifest(hosts: Record<string, ManifestHost>): ReleaseManifest {
  const createdAt = '2026-11-21T08:00:00.000Z';
  const ids = { commit: COMMIT, tree: COMMIT, source: COMMIT };
  return { version: 1, serial: 7, branch: 'release', ...ids, createdAt, hosts, caches: [] };
}

function configs(hosts: Record<string, object>): Map<string, HostConfig> {
  return new Map(Object.entries(hosts).map(([host, config]) => [host, hostConfig.parse(config)]));
}

function plan(results: HostResult<ToplevelFacts>[], before: Record<string, ManifestHost> = {}): HostPlan[] {
  const hosts = configs(Object.fromEntries(results.map(({ host }) => [host, {}])));
  return planRelease({ hosts, results, previous: manifest(before), systems: new Set([NATIVE]) });
}

function kind(results: HostResult<ToplevelFacts>[], before: Record<string, ManifestHost> = {}): string[] {
  return plan(results, before).map((one) => one.kind);
}

test('planRelease() leaves a host alone whose toplevel is that of the last release', () => {
  assert.deepEqual(kind([ok('a', facts('a1'))], { a: entry('a1') }), ['unchanged']);
  assert.deepEqual(kind([ok('a', facts('a2'))], { a: entry('a1') }), ['build']);
  assert.deepEqual(kind([ok('a', facts('a1'))]), ['build']);
});

test('planRelease() looks again at a host that was left behind or deferred', () => {
  const arm = facts('a1', 'aarch64-linux');
  assert.deepEqual(kind([ok('a', facts('a1'))], { a: entry('a1', { state: 'kept' }) }), ['build']);
  assert.deepEqual(kind([ok('a', arm)], { a: entry('a1', { state: 'deferred' }) }), ['unchanged']);
  assert.deepEqual(kind([ok('a', facts('a1'))], { a: entry('a1', { state: 'deferred' }) }), ['build']);
});

test('planRelease() defers a foreign system and passes failures on', () => {
  const results = [ok('arm', facts('arm', 'aarch64-linux')), failed('broken')];
  assert.deepEqual(kind(results), ['deferred', 'failed']);
});

test('findBlocker() stops for required hosts only', () => {
  const plans = plan([failed('a'), ok('arm', facts('arm', 'aarch64-linux'))]);
  assert.equal(findBlocker(plans, configs({ a: {}, arm: {} })), undefined);
  assert.equal(findBlocker(plans, configs({ a: { required: true }, arm: {} }))?.code, 'evaluation_failed');
  assert.equal(findBlocker(plans, configs({ a: {}, arm: { required: true } }))?.code, 'build_failed');
  assert.equal(requiredFailure([failed('a')], configs({ a: { required: true } }))?.facts['host'], 'a');
});

test('describePlans() counts what became of the hosts', () => {
  const results = [
    ok('a', facts('a2')),
    ok('b', facts('b1')),
    failed('c'),
    ok('d', facts('d', 'riscv64-linux')),
  ];
  const plans = plan(results, { a: entry('a1'), b: entry('b1') });
  assert.equal(describePlans(plans), '1 new (a), 1 deferred to the host (d), 1 unchanged, 1 failed (c)');
});

function manifestOf(
  results: HostResult<ToplevelFacts>[],
  before: Record<string, ManifestHost>,
): ReleaseManifest {
  return planManifest({
    config: fleetConfig.parse({}),
    hosts: configs(Object.fromEntries(results.map(({ host }) => [host, {}]))),
    plans: plan(results, before),
    previous: manifest(before),
    serial: manifest(before).serial + 1,
    release: { commit: 'b'.repeat(40), tree: COMMIT, source: COMMIT },
    caches: [],
    at: new Date('2026-11-21T09:00:00Z'),
  });
}

test('planManifest() carries a failed host over with its old toplevel, and leaves out one that had none', () => {
  const made = manifestOf([failed('a'), failed('b'), ok('c', facts('c1'))], { a: entry('a1') });
  assert.equal(made.serial, 8);
  assert.equal(made.previous, COMMIT);
  assert.deepEqual(Object.keys(made.hosts), ['a', 'c']);
  assert.deepEqual([made.hosts['a']?.state, made.hosts['a']?.toplevel], ['kept', path('a1')]);
  assert.equal(made.hosts['c']?.state, 'built');
});

test('planManifest() forgets a host that left the fleet', () => {
  const made = manifestOf([ok('a', facts('a1'))], { a: entry('a1'), gone: entry('g1') });
  assert.deepEqual(Object.keys(made.hosts), ['a']);
});

test('sameHosts() ignores the order of keys and sees every other difference', () => {
  const { mode, ...rest } = entry('a1');
  assert.equal(sameHosts(manifest({ a: entry('a1') }), manifest({ a: { ...rest, mode } })), true);
  assert.equal(sameHosts(manifest({ a: entry('a1') }), manifest({ a: entry('a1', { wave: 2 }) })), false);
  assert.equal(sameHosts(undefined, manifest({})), false);
});

test('planWaves() orders waves and deploys push hosts only', () => {
  const now = manifest({
    late: entry('late', { wave: 2 }),
    pull: entry('pull', { mode: 'pull' }),
    hand: entry('hand', { mode: 'manual' }),
    early: entry('early', { wave: 0 }),
    left: entry('left', { state: 'kept' }),
    arm: entry('arm', { state: 'deferred' }),
  });
  const hosts = configs({ late: { wave: 2 }, pull: {}, hand: {}, early: { wave: 0 }, left: {}, arm: {} });
  const { waves, others } = planWaves(now, hosts, undefined);
  assert.deepEqual(
    waves.map(({ wave, targets }) => [wave, targets.map((target) => target.host)]),
    [
      [0, ['early']],
      [2, ['late']],
    ],
  );
  assert.deepEqual(
    others.map(({ host, phase }) => `${host} ${phase}`),
    ['pull awaiting-agent', 'hand manual', 'arm deferred'],
  );
});

test('planWaves() calls hosts unchanged that the release did not move, but still makes push hosts converge', () => {
  const now = manifest({ push: entry('p'), pull: entry('q', { mode: 'pull' }) });
  const { waves, others } = planWaves(now, configs({ push: {}, pull: {} }), now);
  assert.deepEqual(
    others.map(({ phase }) => phase),
    ['unchanged'],
  );
  assert.equal(waves[0]?.targets[0]?.host, 'push');
});
