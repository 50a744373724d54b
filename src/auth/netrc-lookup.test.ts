import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findNetrcAuthorization } from './netrc-lookup.ts';

const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;
const FILE = `# ours
machine cache.example.org login slipway password slw_1
machine other.example.org
  password two # of somebody
  login b
default login any password guest
`;

test('findNetrcAuthorization() takes the entry of the host, over several lines and past comments', () => {
  assert.equal(findNetrcAuthorization(FILE, 'cache.example.org'), basic('slipway:slw_1'));
  assert.equal(findNetrcAuthorization(FILE, 'other.example.org'), basic('b:two'));
});

test('findNetrcAuthorization() falls back to default, and to nothing', () => {
  assert.equal(findNetrcAuthorization(FILE, 'third.example.org'), basic('any:guest'));
  assert.equal(findNetrcAuthorization('machine a login b password c', 'd'), undefined);
  assert.equal(findNetrcAuthorization('machine a login b', 'a'), undefined);
});
