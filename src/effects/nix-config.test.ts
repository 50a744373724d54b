import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { formatNixConfig } from './nix-config.ts';
import { parseMachineSystems } from './nix-cli.ts';

test('formatNixConfig() adds to what the caller has set', () => {
  const text = formatNixConfig({ substituters: ['https://a', 'https://b'] }, 'sandbox = false\n');
  assert.deepEqual(text.trimEnd().split('\n'), [
    'sandbox = false',
    'extra-experimental-features = nix-command flakes',
    'warn-dirty = false',
    'extra-substituters = https://a https://b',
  ]);
});

test('formatNixConfig() turns an empty list of substituters into offline', () => {
  assert.match(formatNixConfig({ onlySubstituters: [] }), /^substituters =$/m);
});

test('formatNixConfig() refuses a value that would be a setting of its own', () => {
  for (const url of ['https://a\nsandbox = false', 'https://a#b'])
    assert.throws(
      () => formatNixConfig({ substituters: [url] }),
      (error) => isCode(error, 'invalid'),
    );
});

test('parseMachineSystems() reads the second column of every machine', () => {
  const machines =
    'ssh://a aarch64-linux,armv7l-linux /key 4 # a Pi\n\n# none\nssh://b x86_64-linux ; ssh://c -';
  assert.deepEqual(parseMachineSystems(machines), ['aarch64-linux', 'armv7l-linux', 'x86_64-linux']);
});
