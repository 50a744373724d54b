import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exec } from '../effects/exec.ts';
import { formatInstallScript, readRunner } from './runner-script.ts';

test('readRunner() is one file that sources nothing', async () => {
  const runner = await readRunner();
  assert.match(runner, /^#!\/bin\/sh\n/);
  assert.doesNotMatch(runner, /\$here|^\. /m);
  assert.match(runner, /\nmain "\$@"\n$/);
});

test('readRunner() is a script for sh, dash and busybox', async () => {
  for (const shell of [['sh'], ['dash'], ['busybox', 'sh']]) {
    const result = await exec([...shell, '-n'], { input: await readRunner() });
    assert.equal(result.code, 0, result.stderr);
  }
});

test('readRunner() gives shellcheck nothing to say', async () => {
  const result = await exec(['shellcheck', '-'], { input: await readRunner() });
  assert.equal(result.stdout.toString(), '');
});

test('formatInstallScript() quotes file contents whatever they are', async () => {
  const files = {
    id: '01m7ykn0sgrgqshv9ax5p6wcgz',
    intent: '{"a": "$HOME `id` \\\\"}\n',
    checks: "command echo 'x'\n",
    hooks: '',
  };
  const script = formatInstallScript('echo ran\n', files, true);
  assert.match(script, /activate\.sh" start "\S+" --force <\/dev\/null\n$/);
  assert.ok(script.includes(`\n${files.intent}END-`));
  const check = await exec(['sh', '-n'], { input: script });
  assert.equal(check.code, 0, check.stderr);
});
