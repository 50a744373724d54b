import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { formatHash } from '../nix/hash.ts';
import { parsePathInfos } from './path-info.ts';

const OF_NIX_2_8 = readFileSync(
  path.join(import.meta.dirname, '../../test/vectors/nix/path-info-2.8.json'),
  'utf8',
);
const TREE = '/nix/store/y84m0z5pia4bb9dxx6fkv440hczyqisp-tree';
const NAR_HASH = 'sha256-vXgXYgIc1e/fnG1So4xEVvTdRJtCbrm2utv1WAdMjuY=';
const NIX32 = '1rlf9h3mixfvpavbjvj2kd2dvx2n8j6a6lkdkkgyzm8w09i1fy5x';

// The later shapes as the release notes of 2.19 and 2.33 state them, filled with the facts that 2.8 printed.
const SHAPES: readonly [string, string][] = [
  ['the list of 2.8', OF_NIX_2_8],
  [
    'the map of 2.19',
    JSON.stringify({
      [TREE]: {
        narHash: NAR_HASH,
        narSize: 1232,
        references: [],
        ca: `fixed:r:sha256:${NIX32}`,
        deriver: null,
        signatures: ['k:s'],
      },
    }),
  ],
  [
    'format 2 of 2.33',
    JSON.stringify({
      version: 2,
      storeDir: '/nix/store',
      info: {
        [TREE.slice(11)]: {
          narHash: NAR_HASH,
          narSize: 1232,
          references: [],
          ca: { method: 'nar', hash: { algorithm: 'sha256', format: 'base64', hash: NAR_HASH.slice(7) } },
          deriver: null,
          signatures: [{ keyName: 'k', sig: 's' }],
        },
      },
    }),
  ],
];

for (const [shape, text] of SHAPES) {
  test(`parsePathInfos() reads ${shape}`, () => {
    const [info] = parsePathInfos(text);
    assert.ok(info);
    assert.equal(info.path, TREE);
    assert.equal(formatHash(info.narHash, 'sri'), NAR_HASH);
    assert.deepEqual([info.narSize, info.references, info.deriver], [1232, [], undefined]);
    assert.equal(info.contentAddress, `fixed:r:sha256:${NIX32}`);
    assert.match(info.signatures[0] ?? '', /^[^:]+:.+$/);
  });
}

test('parsePathInfos() names a path that is not in the store', () => {
  for (const text of [JSON.stringify([{ path: TREE, valid: false }]), JSON.stringify({ [TREE]: null })]) {
    assert.throws(
      () => parsePathInfos(text),
      (error: Error) => error.message.includes(TREE),
    );
  }
});
