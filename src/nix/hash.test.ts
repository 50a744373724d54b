import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatBase32, parseBase32 } from './base32.ts';
import { formatHash, parseHash, type HashAlgorithm } from './hash.ts';

// Spellings of one and the same hash, printed by `nix hash path` and `nix-hash` 2.8.0.
const SPELLINGS: readonly [HashAlgorithm, readonly string[]][] = [
  [
    'sha256',
    [
      '1rlf9h3mixfvpavbjvj2kd2dvx2n8j6a6lkdkkgyzm8w09i1fy5x',
      'bd781762021cd5efdf9c6d52a38c4456f4dd449b426eb9b6badbf558074c8ee6',
      'vXgXYgIc1e/fnG1So4xEVvTdRJtCbrm2utv1WAdMjuY=',
    ],
  ],
  [
    'sha512',
    [
      '2hfy8qg41qi4pdyl10jpsa9a21vra20jafnqqmdf36h7f7rqw4wls6l81pdzvbi9q8cayasp0nx80bfmanksl92pdx9s4amq0ici9s7',
      '47a7c822c055119d7abb22513dadaa6e01d42db85a79c5104e71eddf6e40d468ca09c7f9b803cd70ad626c9d9240a8bc835049e92b41a0be5d1271200f23efa0',
    ],
  ],
  ['sha1', ['ghmdkyrhlb5iy8wl246zk6fd21c5qsxy', 'be6b5c5810cd99f90d1194231fcba230fbd92a7c']],
  ['md5', ['2p6l6njl1313869ianh4pnld6l', 'd4346a2f8156c564d0082350690d3557']],
];

for (const [algo, spellings] of SPELLINGS) {
  test(`parseHash() reads every spelling of a ${algo} hash as the same bytes`, () => {
    const hex = spellings.find((text) => /^[0-9a-f]+$/.test(text) && text.length % 2 === 0) ?? '';
    for (const text of spellings) {
      assert.deepEqual(Buffer.from(parseHash(text, algo).bytes).toString('hex'), hex);
      assert.deepEqual(parseHash(`${algo}:${text}`), parseHash(text, algo));
    }
  });
}

test('parseHash() reads SRI', () => {
  const sri = parseHash('sha256-vXgXYgIc1e/fnG1So4xEVvTdRJtCbrm2utv1WAdMjuY=');
  assert.equal(formatHash(sri), 'sha256:1rlf9h3mixfvpavbjvj2kd2dvx2n8j6a6lkdkkgyzm8w09i1fy5x');
});

test('formatHash() is undone by parseHash() in every format', () => {
  const sizes = { md5: 16, sha1: 20, sha256: 32, sha512: 64 };
  const anyHash = fc
    .constantFrom(...(Object.keys(sizes) as HashAlgorithm[]))
    .chain((algo) =>
      fc
        .uint8Array({ minLength: sizes[algo], maxLength: sizes[algo] })
        .map((bytes) => ({ algo, bytes: Buffer.from(bytes) })),
    );
  const anyFormat = fc.constantFrom('nix32', 'hex', 'base64', 'sri');
  fc.assert(
    fc.property(anyHash, anyFormat, (hash, format) => {
      const parsed = parseHash(formatHash(hash, format));
      assert.equal(parsed.algo, hash.algo);
      assert.equal(Buffer.compare(parsed.bytes, hash.bytes), 0);
    }),
  );
});

test('parseBase32() undoes formatBase32() for any length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      assert.deepEqual(parseBase32(formatBase32(bytes), bytes.length), bytes);
    }),
  );
});

test('parseBase32() accepts one spelling only: bits beyond the last byte must be zero', () => {
  assert.throws(() => parseBase32('zz', 1), { code: 'invalid' });
  assert.deepEqual([...parseBase32('7z', 1)], [255]);
});

for (const bad of [
  '',
  'sha256:',
  'sha256:xyz',
  'sha3:00',
  'e'.repeat(52),
  `sha256:${'0'.repeat(51)}`,
  'sha256-AAAA',
  'sha1:bd78',
]) {
  test(`parseHash() refuses "${bad}"`, () => {
    assert.throws(() => parseHash(bad), { code: 'invalid' });
  });
}
