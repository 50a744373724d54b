import assert from 'node:assert/strict';
import { test } from 'node:test';
import { editNetrc } from './netrc.ts';

test('editNetrc() adds a host, replaces its token, and is idempotent', () => {
  const once = editNetrc('', 'c.example', 'slw_a');
  assert.equal(once, 'machine c.example login slipway password slw_a\n');
  assert.equal(editNetrc(once, 'c.example', 'slw_a'), once);
  assert.equal(editNetrc(once, 'c.example', 'slw_b'), 'machine c.example login slipway password slw_b\n');
});

test('editNetrc() leaves other hosts, comments and layouts alone, and stays before default', () => {
  const before =
    '# mine\nmachine a.example\n  login me\n  password x\nmachine c.example password old\ndefault login anonymous password y\n';
  assert.equal(
    editNetrc(before, 'c.example', 'new'),
    '# mine\nmachine a.example\n  login me\n  password x\nmachine c.example login slipway password new\ndefault login anonymous password y\n',
  );
  assert.equal(
    editNetrc('machine a password x\ndefault password y', 'b', 'z'),
    'machine a password x\nmachine b login slipway password z\ndefault password y',
  );
});

test('editNetrc() refuses what would become more than one word', () => {
  for (const bad of ['a b', 'a\nmachine evil', '"a"', 'a\\b', ''])
    assert.throws(() => editNetrc('', 'c.example', bad), /cannot hold/);
});
