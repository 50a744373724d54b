import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAuthorization } from './authorization-header.ts';
import { formatToken, generateToken, hashSecret, parseToken, secretMatches } from './token.ts';

const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;

test('parseToken() inverts formatToken()', () => {
  for (let round = 0; round < 200; round++) {
    const token = generateToken();
    assert.deepEqual(parseToken(formatToken(token)), token);
  }
});

test('parseToken() refuses what is not a whole token', () => {
  const text = formatToken(generateToken());
  for (const bad of ['', 'slw_', text.slice(0, -1), `${text}x`, `x${text}`, text.replace('slw_', 'slx_')])
    assert.equal(parseToken(bad), undefined);
});

test('secretMatches() accepts the secret alone', () => {
  const { secret } = generateToken();
  assert.ok(secretMatches(secret, hashSecret(secret)));
  assert.ok(!secretMatches(generateToken().secret, hashSecret(secret)));
  assert.ok(!secretMatches(secret, new Uint8Array(3)));
});

test('parseAuthorization() finds the token in Bearer, bearer and Basic with any user', () => {
  const token = generateToken();
  const text = formatToken(token);
  for (const header of [`Bearer ${text}`, `bearer ${text}`, basic(`:${text}`), basic(`nix:${text}`)])
    assert.deepEqual(parseAuthorization(header), token);
});

test('parseAuthorization() finds nothing in what is broken, foreign or overlong', () => {
  const text = formatToken(generateToken());
  for (const header of [undefined, '', 'Bearer', text, `Digest ${text}`, 'Basic ???', basic('user:pass')])
    assert.equal(parseAuthorization(header), undefined);
  assert.equal(parseAuthorization(`Bearer ${'a'.repeat(10_000)}`), undefined);
});
