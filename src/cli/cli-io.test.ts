import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';

const MAIN = path.join(import.meta.dirname, 'main.ts');

test('a reader that has read enough is no failure', () => {
  const script = `"$0" "$1" deploy --help | true; echo "\${PIPESTATUS[0]}"`;
  const { stdout, stderr } = spawnSync('bash', ['-c', script, process.execPath, MAIN], { encoding: 'utf8' });
  assert.equal(stderr, '');
  assert.equal(stdout, '0\n');
});
