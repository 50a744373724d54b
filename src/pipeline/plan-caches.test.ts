import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { hasNewCache, manifestCaches, planCaches } from './plan-caches.ts';

const given = { url: 'http://cache.lab:8000/main/', publicKeys: ['main-1:abc'] };

test('planCaches() finds the server of slipway:<cache> by option or by a given URL that ends in it', () => {
  assert.deepEqual(planCaches(['slipway:main'], [], 'https://s.example.org/'), [
    { url: 'https://s.example.org/main', publicKeys: [] },
  ]);
  assert.deepEqual(planCaches(['slipway:main'], [given], undefined), [given]);
});

test('planCaches() names each cache once, in the order of the flake', () => {
  const caches = planCaches(['s3://bucket', 'slipway:main'], [given], undefined);
  assert.deepEqual(
    caches.map(({ url }) => url),
    ['s3://bucket', given.url],
  );
});

test('planCaches() asks where a cache is when nobody said so', () => {
  assert.throws(
    () => planCaches(['slipway:other'], [given], undefined),
    (error) => isCode(error, 'invalid') && /slipway:other/.test(error.message),
  );
});

test('manifestCaches() leaves parameters out that are the writer’s own business', () => {
  const url = 'file:///srv/cache?secret-key=/etc/key&compression=zstd';
  assert.deepEqual(manifestCaches([{ url, publicKeys: [] }]), [{ url: 'file:///srv/cache', publicKeys: [] }]);
});

test('hasNewCache() sees a new address and a new key, and does not mind one that is gone', () => {
  const release = { caches: manifestCaches([given, { url: 's3://old', publicKeys: [] }]) };
  assert.equal(hasNewCache(release, [given]), false);
  assert.equal(hasNewCache(release, [{ ...given, publicKeys: ['main-2:def'] }]), true);
  assert.equal(hasNewCache(release, [given, { url: 's3://new', publicKeys: [] }]), true);
});
