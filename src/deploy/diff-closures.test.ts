import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diffClosures } from './diff-closures.ts';

const path = (name: string, hash = '0'): string => `/nix/store/${hash.repeat(32)}-${name}`;

test('diffClosures() names packages that came, went or changed their version', () => {
  const before = [path('openssl-3.0.1'), path('hello-2.12'), path('etc'), path('nixos-system-web1-26.05')];
  const after = [
    path('openssl-3.0.2'),
    path('etc', '1'),
    path('nginx-1.2'),
    path('nixos-system-web1-26.05', '1'),
  ];
  const diff = diffClosures(before, after);
  assert.deepEqual(diff.changes, [
    { name: 'hello', before: ['2.12'], after: [] },
    { name: 'nginx', before: [], after: ['1.2'] },
    { name: 'openssl', before: ['3.0.1'], after: ['3.0.2'] },
  ]);
  assert.deepEqual([diff.added, diff.removed], [4, 4]);
});

test('diffClosures() says nothing of equal closures', () => {
  assert.deepEqual(diffClosures([path('a-1')], [path('a-1')]), { changes: [], added: 0, removed: 0 });
});
