// The completions, as a real bash uses them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exec } from '../effects/exec.ts';
import type { CliIo } from './cli-io.ts';
import { main } from './main.ts';

async function printed(...argv: string[]): Promise<string> {
  let out = '';
  const stdout = (text: string): void => void (out += text);
  const rest = { stderr: stdout, env: {}, cwd: '/', terminal: false, color: false };
  const io: CliIo = { stdout, ...rest, signal: new AbortController().signal };
  assert.equal(await main(argv, io), 0);
  return out;
}

/** What bash offers for the last of the words. */
async function offered(script: string, words: readonly string[]): Promise<string[]> {
  const ask = `${script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _slipway; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await exec(['bash', '-c', ask, 'bash', ...words], { timeoutMs: 10_000 });
  return stdout.toString().split('\n').filter(Boolean);
}

void test('bash completes commands, and options also behind hosts and the values of options', async () => {
  const script = await printed('completion', 'bash');
  assert.deepEqual(await offered(script, ['slipway', 'rollb']), ['rollback']);
  assert.deepEqual(await offered(script, ['slipway', 'agent', 'su']), ['suspend']);
  assert.deepEqual(await offered(script, ['slipway', 'deploy', 'web1', '--dry-a']), ['--dry-activate']);
  const behind = ['slipway', 'agent', '--config', '/etc/x.toml', 'sync', '--time'];
  assert.deepEqual(await offered(script, behind), ['--timeout']);
});

void test('fish gets one line a word, with what it means, quoted', async () => {
  const script = await printed('completion', 'fish');
  for (const line of script.trim().split('\n'))
    assert.match(line, /^complete -c slipway -n '[^']*' -[al] \S+ -d '/);
  assert.match(script, /-a use -d 'Let this machine\\'s Nix read a cache'/);
});
