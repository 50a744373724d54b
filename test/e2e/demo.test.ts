// The main job, end to end: what `make demo` shows holds, and it says so in the one line that machines read.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { exec } from '../../src/effects/exec.ts';

const DEMO = join(import.meta.dirname, '../../scripts/demo.ts');

test('make demo takes a push to real hosts, undoes bad ones, and ends with one JSON line', async (t) => {
  const { code, stdout, stderr } = await exec([process.execPath, DEMO, '--once', '--json']);
  const lines = stdout.toString().trim().split('\n');
  assert.equal(lines.length, 1);
  const said = JSON.parse(lines[0] ?? '') as {
    ok: boolean;
    steps: { name: string; ok: boolean; error?: string }[];
  };
  for (const step of said.steps) {
    await t.test(step.name, () => assert.ok(step.ok, `${step.error ?? ''}\n${stderr}`));
  }
  assert.deepEqual({ code, ok: said.ok, steps: said.steps.length }, { code: 0, ok: true, steps: 9 });
});
