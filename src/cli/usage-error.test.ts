// How a wrong call is told, to people and to machines.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CliIo } from './cli-io.ts';
import { main } from './main.ts';
import { parseUsageMessage } from './usage-error.ts';

async function call(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const said = { out: '', err: '' };
  const io: CliIo = {
    stdout: (text) => void (said.out += text),
    stderr: (text) => void (said.err += text),
    env: {},
    cwd: '/',
    terminal: false,
    color: false,
    signal: new AbortController().signal,
  };
  return { code: await main(argv, io), ...said };
}

void test('a word that is no command: one message, the nearest one as the next step', async () => {
  const { code, out, err } = await call('deplyo');
  assert.deepEqual(
    { code, out, err },
    { code: 2, out: '', err: "error [invalid] Unknown command 'deplyo'.\n next Did you mean deploy?\n" },
  );
});

void test('an unknown option names the command whose help to read', async () => {
  const { code, err } = await call('agent', 'sync', '--bogus-thing');
  assert.equal(code, 2);
  assert.match(err, /Unknown option '--bogus-thing'\.\n next "slipway agent sync --help" shows/);
});

void test('with --json a wrong call is one JSON object on stdout, and nothing else', async () => {
  for (const argv of [['bogus'], ['push'], ['completion', 'powershell'], ['secrets'], ['agent', 'bogus']]) {
    const { code, out, err } = await call(...argv, '--json');
    assert.equal(code, 2, argv.join(' '));
    const { ok, error } = JSON.parse(out) as { ok: boolean; error: Record<string, string> };
    assert.equal(ok, false);
    assert.equal(error['code'], 'invalid');
    assert.ok(error['message'] !== undefined && error['next'] !== undefined);
    assert.equal(argv[0] === 'secrets' ? '' : err, '');
  }
});

void test('`help COMMAND` is the help of that command, with its options', async () => {
  const asked = await call('help', 'agent', 'sync');
  assert.equal(asked.code, 0);
  assert.match(asked.out, /--no-wait/);
  assert.equal(asked.out, (await call('agent', 'sync', '--help')).out);
  assert.match((await call('help')).out, /watch-store/);
});

void test('parseUsageMessage() keeps what commander hints at', () => {
  assert.deepEqual(parseUsageMessage("error: unknown option '--x'\n(Did you mean --y?)"), {
    message: "Unknown option '--x'.",
    hint: 'Did you mean --y?',
  });
});
