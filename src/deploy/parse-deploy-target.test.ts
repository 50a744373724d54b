import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { parseDeployTarget } from './parse-deploy-target.ts';

test('parseDeployTarget() reads what deploy-rs reads', () => {
  const cases: [string, string, string | undefined, string | undefined][] = [
    ['../deploy/examples/system', '../deploy/examples/system', undefined, undefined],
    ['../deploy/examples/system#', '../deploy/examples/system', undefined, undefined],
    [
      '../deploy/examples/system#computer."something.nix"',
      '../deploy/examples/system',
      'computer',
      'something.nix',
    ],
    ['../deploy/examples/system#"example.com".system', '../deploy/examples/system', 'example.com', 'system'],
    ['../deploy/examples/system#example', '../deploy/examples/system', 'example', undefined],
    ['../deploy/examples/system#example.system', '../deploy/examples/system', 'example', 'system'],
    ['github:me/fleet?dir=a#web-1', 'github:me/fleet?dir=a', 'web-1', undefined],
  ];
  for (const [text, flake, node, profile] of cases)
    assert.deepEqual(parseDeployTarget(text), { flake, node, profile }, text);
});

test('parseDeployTarget() refuses a path that is too long or no name at all, and says what to write', () => {
  for (const text of ['.#example.com.system', '.#a.b.c', '.#.a', '.#a.', '.#"a', '.#a b', '.#${x}', '.#""'])
    assert.throws(
      () => parseDeployTarget(text),
      (error) => isCode(error, 'invalid') && error.next !== undefined,
      text,
    );
  assert.throws(() => parseDeployTarget('.#example.com.system'), { next: /quotes/ });
});
