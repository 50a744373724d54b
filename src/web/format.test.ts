import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAgo, formatDuration, splitToplevel } from './format.ts';

test('formatDuration() speaks as people do', () => {
  const spoken = [0, 840, 3_240, 245_000, 7_800_000].map(formatDuration);
  assert.deepEqual(spoken, ['0 ms', '840 ms', '3.2 s', '4 min 05 s', '2 h 10 min']);
});

test('formatAgo() never says that something is in the future', () => {
  const now = Date.parse('2026-11-21T08:00:00.000Z');
  assert.equal(formatAgo('2026-11-21T08:00:30.000Z', now), 'just now');
  assert.equal(formatAgo('2026-11-21T07:55:00.000Z', now), '5 min ago');
  assert.equal(formatAgo('2026-11-19T08:00:00.000Z', now), '2 days ago');
});

test('splitToplevel() cuts a store path into hash and name', () => {
  const toplevel = '/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-web1-26.05';
  assert.deepEqual(splitToplevel(toplevel), { hash: '0123456', name: 'web1-26.05' });
});
