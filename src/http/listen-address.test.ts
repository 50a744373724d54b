import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { formatListenUrl, isLocalAddress, isLoopback, parseListenAddress } from './listen-address.ts';

test('parseListenAddress() reads addresses, every address, and sockets', () => {
  assert.deepEqual(parseListenAddress('127.0.0.1:7480'), { kind: 'tcp', host: '127.0.0.1', port: 7480 });
  assert.deepEqual(parseListenAddress('[::1]:0'), { kind: 'tcp', host: '::1', port: 0 });
  assert.deepEqual(parseListenAddress(':80'), { kind: 'tcp', host: undefined, port: 80 });
  assert.deepEqual(parseListenAddress('unix:/run/x.sock'), { kind: 'unix', path: '/run/x.sock' });
});

test('parseListenAddress() refuses what it cannot listen on', () => {
  for (const text of [
    '',
    '7480',
    '127.0.0.1',
    'x:99999',
    '::1:80',
    'unix:x',
    `unix:/${'x'.repeat(107)}`,
    'a b:1',
  ])
    assert.throws(
      () => parseListenAddress(text),
      (error: unknown) => isCode(error, 'invalid'),
      text,
    );
});

test('isLocalAddress() holds for loopback and sockets only', () => {
  for (const text of ['127.0.0.1:1', '127.9.9.9:1', '[::1]:1', 'unix:/x', 'localhost:1'])
    assert.ok(isLocalAddress(parseListenAddress(text)), text);
  for (const text of [':1', '0.0.0.0:1', '192.0.2.1:1', '[::]:1', '127.example.org:1'])
    assert.ok(!isLocalAddress(parseListenAddress(text)), text);
});

test('isLoopback() knows IPv4 inside IPv6', () => {
  assert.ok(isLoopback('::ffff:127.0.0.1') && !isLoopback('::ffff:192.0.2.1'));
});

test('formatListenUrl() gives what a client here can open', () => {
  assert.equal(formatListenUrl(parseListenAddress(':7480')), 'http://localhost:7480');
  assert.equal(formatListenUrl(parseListenAddress('[::1]:7480')), 'http://[::1]:7480');
});
