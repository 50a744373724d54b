// The static checks, as tests: what `npm run check` runs, each named by what it holds.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exec } from '../../src/effects/exec.ts';

const ROOT = new URL('../..', import.meta.url).pathname;

const CHECKS = [
  { name: 'types hold', script: 'types' },
  { name: 'lint is clean', script: 'lint' },
  { name: 'every file is formatted', script: 'format:check' },
  { name: 'there is no dead code', script: 'dead' },
] as const;

for (const { name, script } of CHECKS) {
  test(name, async () => {
    const { code, stdout, stderr } = await exec(['npm', 'run', '--silent', script], { cwd: ROOT });
    assert.equal(code, 0, `npm run ${script} said:\n${stdout.toString()}${stderr}`);
  });
}
