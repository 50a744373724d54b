import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatDerivation, parseDerivation } from './derivation.ts';

const WRITTEN_BY_NIX = readFileSync(
  path.join(import.meta.dirname, '../../test/vectors/nix/d-1.0.drv'),
  'utf8',
);

test('parseDerivation() reads what Nix wrote', () => {
  const drv = parseDerivation(WRITTEN_BY_NIX);
  assert.deepEqual([...drv.outputs.keys()], ['dev', 'out']);
  assert.equal(drv.outputs.get('out')?.path, '/nix/store/9bfsc8h1qammf1h6q0iyv9f62yjmibq9-d-1.0');
  assert.deepEqual(drv.args, ['-c', 'echo "q\\\\\n\t" > $out']);
  assert.deepEqual(drv.inputSources, ['/nix/store/4l1475nkcpbq9d4naa1lni8jw347w05m-in']);
  assert.equal(drv.env.get('outputs'), 'out dev');
});

test('formatDerivation() writes the bytes that Nix wrote', () => {
  assert.equal(formatDerivation(parseDerivation(WRITTEN_BY_NIX)), WRITTEN_BY_NIX);
});

test('parseDerivation() undoes formatDerivation() for any strings', () => {
  const strings = fc.array(fc.string({ unit: 'binary' }));
  const pairs = fc.array(fc.tuple(fc.string(), fc.string({ unit: 'binary' })));
  fc.assert(
    fc.property(strings, pairs, (args, env) => {
      const drv = { ...parseDerivation(WRITTEN_BY_NIX), args, env: new Map(env) };
      const again = parseDerivation(formatDerivation(drv));
      assert.deepEqual([again.args, Object.fromEntries(again.env)], [args, Object.fromEntries(drv.env)]);
    }),
  );
});

test('parseDerivation() refuses every derivation cut short, and text after the end', () => {
  for (let length = 0; length < WRITTEN_BY_NIX.length; length += 3) {
    assert.throws(() => parseDerivation(WRITTEN_BY_NIX.slice(0, length)), { code: 'invalid' });
  }
  assert.throws(() => parseDerivation(`${WRITTEN_BY_NIX}x`), { code: 'invalid' });
});
