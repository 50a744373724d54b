import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressKind, mayFollow, mayRedirectTo } from './redirect-rules.ts';

test('addressKind() knows where an address lies, in every spelling', () => {
  const kinds = {
    '151.101.2.217': 'public',
    '2a04:4e42::729': 'public',
    '10.1.2.3': 'private',
    '172.20.0.1': 'private',
    '100.64.0.9': 'private',
    'fd12::1': 'private',
    '::ffff:192.168.1.1': 'private',
    '64:ff9b::10.0.0.1': 'private',
    '127.0.0.1': 'loopback',
    '0.0.0.0': 'loopback',
    '::1': 'loopback',
    '::ffff:7f00:1': 'loopback',
    '169.254.169.254': 'link-local',
    'fe80::1': 'link-local',
    'fd00:ec2::254': 'link-local',
  };
  for (const [address, kind] of Object.entries(kinds)) assert.equal(addressKind(address), kind, address);
});

test('mayRedirectTo() never leads further inside than the upstream is', () => {
  assert.equal(mayRedirectTo('public', '151.101.2.217'), true);
  assert.equal(mayRedirectTo('public', '10.0.0.1'), false);
  assert.equal(mayRedirectTo('public', '127.0.0.1'), false);
  assert.equal(mayRedirectTo('private', '10.0.0.1'), true);
  assert.equal(mayRedirectTo('private', '127.0.0.1'), false);
  assert.equal(mayRedirectTo('loopback', '127.0.0.1'), true);
  assert.equal(mayRedirectTo('loopback', '169.254.169.254'), false);
});

test('mayFollow() keeps to http and https, never from https to http, and brings no credentials', () => {
  const from = new URL('https://cache.example.org/');
  const follows = (to: string): boolean => mayFollow(from, 'public', new URL(to, from));
  assert.equal(follows('https://s3.example.org/nar/x'), true);
  assert.equal(follows('/other'), true);
  assert.equal(follows('http://s3.example.org/nar/x'), false);
  assert.equal(follows('file:///etc/passwd'), false);
  assert.equal(follows('https://user:word@s3.example.org/'), false);
  assert.equal(follows('https://[::1]/'), false);
  assert.equal(follows('https://0x7f000001/'), false, 'URL parsing makes 127.0.0.1 of it');
});
