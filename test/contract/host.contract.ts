// What every Host must do. An adapter's test calls this with a way to open one.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Host } from '../../src/effects/host.ts';
import { isCode } from '../../src/util/errors.ts';

export function hostContract(name: string, open: () => Promise<Host>): void {
  const check = (fact: string, work: (host: Host) => Promise<void>): void => {
    test(`${name} ${fact}`, async () => {
      await using host = await open();
      await work(host);
    });
  };

  check('hands words to the program as they are', async (host) => {
    const words = ['', 'a b', "it's", '$HOME', '`id`', '*', '"', '\\', 'two\nlines', '-x', '~'];
    const result = await host.run(['printf', String.raw`%s\0`, ...words]);
    assert.deepEqual(result.stdout.toString().split('\0').slice(0, -1), words);
  });

  check('keeps stdout, stderr and exit code apart', async (host) => {
    const result = await host.run(['sh', '-c', 'echo out; echo err >&2; exit 7']);
    assert.deepEqual([result.code, result.stdout.toString(), result.stderr], [7, 'out\n', 'err\n']);
  });

  check('runs as root, without a terminal', async (host) => {
    const result = await host.run(['sh', '-c', 'id -u; [ -t 0 ] || echo none']);
    assert.equal(result.stdout.toString(), '0\nnone\n');
  });

  check('carries input of any bytes and size', async (host) => {
    const input = randomBytes(3_000_000);
    const result = await host.run(['cat'], { input });
    assert.ok(input.equals(result.stdout));
  });

  check('delivers lines while the program still runs', async (host) => {
    const stop = new AbortController();
    const lines: string[] = [];
    const onStdoutLine = (line: string): void => {
      lines.push(line);
      stop.abort();
    };
    const running = host.run(['sh', '-c', 'echo first; sleep 60'], { onStdoutLine, signal: stop.signal });
    await assert.rejects(running, (error) => isCode(error, 'cancelled'));
    assert.deepEqual(lines, ['first']);
  });

  check('ends at its deadline', async (host) => {
    await assert.rejects(host.run(['sleep', '60'], { timeoutMs: 300 }), (error) => isCode(error, 'timeout'));
  });

  check('runs several programs at a time', async (host) => {
    const results = await Promise.all(
      Array.from({ length: 8 }, async (_, i) => host.run(['echo', String(i)])),
    );
    assert.deepEqual(
      results.map(({ stdout }) => stdout.toString().trim()),
      ['0', '1', '2', '3', '4', '5', '6', '7'],
    );
  });

  check('answers over fresh connections as well', async (host) => {
    await using fresh = host.fresh();
    assert.equal((await fresh.run(['echo', 'here'])).stdout.toString(), 'here\n');
    assert.equal(fresh.name, host.name);
  });

  check('writes a file whole, with its mode, over an older one', async (host) => {
    const folder = await mkdtemp(join(tmpdir(), 'slipway-host-'));
    try {
      const path = join(folder, "it's a file");
      await host.write(path, 'old', '0644');
      const content = randomBytes(10_000);
      await host.write(path, content, '0600');
      assert.ok(content.equals(await readFile(path)));
      assert.equal((await stat(path)).mode % 0o1000, 0o600);
      await assert.rejects(host.write(join(folder, 'none/file'), '', '0600'), /could not be written/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
}
