import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { exec, execText } from './exec.ts';

test('exec() returns exit code, stdout and stderr whatever the code', async () => {
  const result = await exec(['sh', '-c', 'echo out; echo err >&2; exit 3']);
  assert.deepEqual([result.code, result.stdout.toString(), result.stderr], [3, 'out\n', 'err\n']);
});

test('exec() hands input to the program without argv', async () => {
  assert.equal(await execText(['cat'], { input: 'by standard input' }), 'by standard input');
});

test('exec() survives a program that does not read its input', async () => {
  assert.equal((await exec(['true'], { input: Buffer.alloc(1 << 20) })).code, 0);
});

test('exec() kills the whole process group at the deadline', async () => {
  const started = Date.now();
  await assert.rejects(exec(['sh', '-c', 'sleep 30 & sleep 30'], { timeoutMs: 50 }), (error) =>
    isCode(error, 'timeout'),
  );
  assert.ok(Date.now() - started < 5_000);
});

test('exec() refuses more output than allowed', async () => {
  await assert.rejects(exec(['sh', '-c', 'yes'], { maxOutput: 1000 }), (error) => isCode(error, 'too_large'));
});

test('exec() names a missing program and the next step', async () => {
  await assert.rejects(
    exec(['slipway-no-such-program']),
    (error) => isCode(error, 'missing_tool') && error.next !== undefined,
  );
});

test('exec() gives lines as they come', async () => {
  const lines: string[] = [];
  await exec(['sh', '-c', 'echo a; echo b'], { onStdoutLine: (line) => lines.push(line) });
  assert.deepEqual(lines, ['a', 'b']);
});

test('execText() fails with the end of stderr', async () => {
  await assert.rejects(execText(['sh', '-c', 'echo because >&2; exit 1']), /because/);
});

test('exec() does not wait for a stranger that holds on to the output of a program that ended', async () => {
  const started = performance.now();
  const result = await exec(['sh', '-c', 'echo said; (setsid sleep 40) & exit 3']);
  assert.deepEqual([result.code, result.stdout.toString()], [3, 'said\n']);
  assert.ok(performance.now() - started < 30_000);
});
