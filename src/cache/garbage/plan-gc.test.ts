import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PathGraph, type GraphPath } from './path-graph.ts';
import { planGc, type GcPlan, type GcPolicy, type Retention } from './plan-gc.ts';

const NOW = 1000;
const POLICY: GcPolicy = {
  now: NOW,
  roots: new Set(),
  retention: new Map([[1, { keepMs: 100, by: 'use', borrowedBytes: undefined }]]),
  graceMs: 50,
  borrowedGraceMs: 5,
  youngMs: 10,
};

function path(hash: string, more: Partial<GraphPath> = {}): GraphPath {
  return {
    cacheId: 1,
    hash,
    references: [],
    createdAt: 0,
    lastUsedAt: 0,
    tombstonedAt: undefined,
    size: 1,
    borrowed: false,
    ...more,
  };
}

function plan(paths: readonly GraphPath[], policy: Partial<GcPolicy> = {}): GcPlan {
  const graph = new PathGraph();
  for (const one of paths) graph.add(one);
  return planGc(graph, { ...POLICY, ...policy });
}

function hashes(rows: readonly { readonly hash: string }[]): string[] {
  return rows.map(({ hash }) => hash);
}

test('planGc() tombstones what nothing keeps, and keeps the closure of what is kept', () => {
  const paths = [
    path('used', { lastUsedAt: 950, references: ['lib'] }),
    path('lib', { references: ['libc', 'lib'] }),
    path('libc'),
    path('old', { references: ['libc', 'only-old'] }),
    path('only-old'),
    path('young', { createdAt: 995 }),
    path('pinned', { references: ['pinned-lib'] }),
    path('pinned-lib'),
  ];
  const { tombstone, remove, kept } = plan(paths, { roots: new Set(['pinned']) });
  assert.deepEqual(hashes(tombstone), ['old', 'only-old']);
  assert.deepEqual(remove, []);
  assert.equal(kept, 6);
});

test('planGc() removes after the grace, referrers first, and revives what is kept again', () => {
  const expired = { tombstonedAt: 900 };
  const paths = [
    path('c', expired),
    path('b', { ...expired, references: ['c'] }),
    path('a', { ...expired, references: ['b', 'c'] }),
    path('back', { ...expired, lastUsedAt: 990 }),
    path('waiting', { tombstonedAt: 980 }),
  ];
  const { remove, revive, waiting } = plan(paths);
  assert.deepEqual(hashes(remove), ['a', 'b', 'c']);
  assert.deepEqual(hashes(revive), ['back']);
  assert.equal(waiting, 1);
});

test('planGc() does not remove what a path references whose own grace goes on', () => {
  const { remove, waiting } = plan([
    path('lib', { tombstonedAt: 900 }),
    path('top', { tombstonedAt: 990, references: ['lib'] }),
  ]);
  assert.deepEqual(remove, []);
  assert.equal(waiting, 2);
});

test('planGc() keeps everything where retention is for ever', () => {
  const retention = new Map<number, Retention>([
    [1, { keepMs: undefined, by: 'use', borrowedBytes: undefined }],
  ]);
  assert.equal(plan([path('a'), path('b')], { retention }).kept, 2);
});

test('planGc() counts from the publication where retention is by age', () => {
  const retention = new Map<number, Retention>([[1, { keepMs: 100, by: 'age', borrowedBytes: undefined }]]);
  const { tombstone } = plan([path('a', { lastUsedAt: 999 }), path('b', { createdAt: 950 })], { retention });
  assert.deepEqual(hashes(tombstone), ['a']);
});

function borrowed(hash: string, lastUsedAt: number, size: number): GraphPath {
  return path(hash, { borrowed: true, lastUsedAt, size });
}

test('planGc() keeps the most recently used of what upstreams have, up to the bound', () => {
  const retention = new Map<number, Retention>([[1, { keepMs: 1, by: 'use', borrowedBytes: 10 }]]);
  const { tombstone } = plan([borrowed('a', 1, 4), borrowed('b', 2, 5), borrowed('c', 3, 5)], { retention });
  assert.deepEqual(hashes(tombstone), ['a']);
});

test('planGc() keeps in the base what an overlay needs', () => {
  const retention = new Map<number, Retention>([
    [1, { keepMs: 1, by: 'use', borrowedBytes: undefined }],
    [2, { keepMs: undefined, by: 'use', borrowedBytes: undefined }],
  ]);
  const { tombstone } = plan(
    [path('base'), path('other'), path('mine', { cacheId: 2, references: ['base'] })],
    {
      retention,
    },
  );
  assert.deepEqual(hashes(tombstone), ['other']);
});

const arbitraryPaths = fc
  .array(
    fc.record({
      references: fc.array(fc.nat(40), { maxLength: 4 }),
      createdAt: fc.nat(1000),
      lastUsedAt: fc.nat(1000),
      tombstonedAt: fc.option(fc.nat(1000), { nil: undefined }),
      size: fc.nat(20),
      borrowed: fc.boolean(),
      cacheId: fc.constantFrom(1, 2),
    }),
    { maxLength: 40 },
  )
  .map((list) =>
    list.map((one, index) => ({
      ...one,
      hash: `p${index}`,
      // Only earlier paths are referenced, and sometimes one that is not there.
      references: one.references.map((reference) =>
        reference < index ? `p${reference}` : `gone${reference}`,
      ),
    })),
  );

test('planGc() never removes or tombstones what a root reaches, nor what any path that stays reaches', () => {
  const bytes = fc.option(fc.nat(100), { nil: undefined });
  fc.assert(
    fc.property(arbitraryPaths, fc.array(fc.nat(39)), bytes, (paths, roots, borrowedBytes) => {
      const retention = new Map<number, Retention>([
        [1, { keepMs: 300, by: 'use', borrowedBytes }],
        [2, { keepMs: 500, by: 'age', borrowedBytes }],
      ]);
      const made = plan(paths, { roots: new Set(roots.map((root) => `p${root}`)), retention });
      const reached = closureOf(paths, new Set(roots.map((root) => `p${root}`)));
      for (const hash of [...hashes(made.tombstone), ...hashes(made.remove)])
        assert.ok(!reached.has(hash), hash);
      const removed = new Set(hashes(made.remove));
      const stay = new Set(paths.map(({ hash }) => hash).filter((hash) => !removed.has(hash)));
      for (const hash of closureOf(paths, stay)) assert.ok(!removed.has(hash), hash);
      assertReferrersFirst(paths, hashes(made.remove));
    }),
    { numRuns: 500 },
  );
});

function closureOf(paths: readonly GraphPath[], start: ReadonlySet<string>): Set<string> {
  const reached = new Set(start);
  for (const { hash, references } of paths.toReversed())
    if (reached.has(hash)) for (const reference of references) reached.add(reference);
  return reached;
}

function assertReferrersFirst(paths: readonly GraphPath[], removed: readonly string[]): void {
  const place = new Map(removed.map((hash, index) => [hash, index]));
  for (const { hash, references } of paths)
    for (const reference of references) {
      const [own, other] = [place.get(hash), place.get(reference)];
      if (own !== undefined && other !== undefined) assert.ok(own < other, `${reference} before ${hash}`);
    }
}
