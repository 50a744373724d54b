import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseHash } from './hash.ts';
import {
  contentAddressedPath,
  isStorePath,
  parseStorePath,
  storePathHash,
  storePathName,
} from './store-path.ts';

const HASH = 'y84m0z5pia4bb9dxx6fkv440hczyqisp';

test('parseStorePath() takes a path apart', () => {
  const path = parseStorePath(`/nix/store/${HASH}-tree`);
  assert.deepEqual([storePathHash(path), storePathName(path)], [HASH, 'tree']);
});

const BAD: readonly [string, string][] = [
  ['another directory', `/tmp/store/${HASH}-tree`],
  ['a file inside', `/nix/store/${HASH}-tree/bin`],
  ['no name', `/nix/store/${HASH}-`],
  ['no dash', `/nix/store/${HASH}`],
  ['a letter outside the alphabet', `/nix/store/e${HASH.slice(1)}-tree`],
  ['an upper-case hash', `/nix/store/${HASH.toUpperCase()}-tree`],
  ['a space', `/nix/store/${HASH}-a b`],
  ['a newline', `/nix/store/${HASH}-a\nb`],
  ['a trailing newline', `/nix/store/${HASH}-a\n`],
  ['a dot name', `/nix/store/${HASH}-.`],
  ['a dot-dot name', `/nix/store/${HASH}-..`],
  ['a dot-dot component', `/nix/store/${HASH}-..-x`],
  ['a path that climbs', `/nix/store/../etc/${HASH}-tree`],
  ['a name over 211 characters', `/nix/store/${HASH}-${'n'.repeat(212)}`],
];

for (const [what, text] of BAD) {
  test(`parseStorePath() refuses ${what}`, () => {
    assert.throws(() => parseStorePath(text), { code: 'invalid' });
    assert.equal(isStorePath(text), false);
  });
}

// Paths that Nix 2.8.0 printed for `nix store add-path`, `add-file`, builtins.toFile and a fixed-output derivation.
test('contentAddressedPath() names what Nix names', () => {
  const nar = parseHash('sha256:1rlf9h3mixfvpavbjvj2kd2dvx2n8j6a6lkdkkgyzm8w09i1fy5x');
  assert.equal(
    contentAddressedPath({ name: 'tree', address: { method: 'nar', hash: nar }, references: [] }),
    '/nix/store/y84m0z5pia4bb9dxx6fkv440hczyqisp-tree',
  );
  const flat = parseHash('sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=');
  assert.equal(
    contentAddressedPath({ name: 'fixed', address: { method: 'flat', hash: flat }, references: [] }),
    '/nix/store/jspds48qb346qg0qzb3v8ibysj3zcq7y-fixed',
  );
});

test('contentAddressedPath() refuses references that the kind of address cannot have', () => {
  const hash = parseHash('sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=');
  const references = [parseStorePath(`/nix/store/${HASH}-tree`)];
  for (const facts of [
    { address: { method: 'flat' as const, hash }, references },
    { address: { method: 'text' as const, hash }, references, selfReference: true },
  ]) {
    assert.throws(() => contentAddressedPath({ name: 'x', ...facts }), { code: 'invalid' });
  }
});
