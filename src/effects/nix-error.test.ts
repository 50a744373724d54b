import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseNixError } from './nix-error.ts';

const SOURCE = `/nix/store/${'0'.repeat(32)}-source`;

test('parseNixError() finds the error and its place in the words of Nix 2.8', () => {
  const stderr = `warning: Git tree is dirty
\u001B[31;1merror:\u001B[0m undefined variable 'pkgs'

       at ${SOURCE}/hosts/web1.nix:3:5:

            2|
            3|   pkgs
             |   ^
(use '--show-trace' to show detailed location information)
`;
  const { message, detail } = parseNixError(stderr);
  assert.equal(message, "undefined variable 'pkgs'");
  assert.match(detail, /at hosts\/web1\.nix:3:5:/);
  assert.equal(detail.includes('show-trace'), false);
});

test('parseNixError() takes the innermost error of the traces of newer versions', () => {
  const stderr = `error:
       … while evaluating the attribute 'drvPath'
         at ${SOURCE}/flake.nix:1:1:
       … while calling the 'throw' builtin
       error: the disk is not known
`;
  assert.equal(parseNixError(stderr).message, 'the disk is not known');
});

test('parseNixError() says something when Nix said nothing', () => {
  assert.equal(parseNixError('').message, 'Nix gave no reason');
});
