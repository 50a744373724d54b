// A server collects garbage by itself, in a thread of its own, and ends in time although a collection has just begun.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { noise, testPath, Uploader } from '../contract/cache-uploads.ts';
import { sleep } from '../../src/util/deadline.ts';

const MAIN = join(import.meta.dirname, '../../src/cli/main.ts');

test('serve collects garbage while it serves, again and again, until it is stopped', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-collects-'));
  const config = join(folder, 'server.toml');
  writeFileSync(
    config,
    `data = "${folder}/data"
listen = ["127.0.0.1:0"]
caches = [{ name = "main", public = true }]
gc = { every = 1, keep = 1 }
`,
  );
  const server = spawn(process.execPath, [MAIN, 'serve', '--config', config, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const complaints: Buffer[] = [];
  server.stderr.on('data', (bytes: Buffer) => complaints.push(bytes));
  try {
    const [line] = (await once(server.stdout, 'data')) as [Buffer];
    const { publicUrl } = JSON.parse(line.toString().split('\n')[0] ?? '') as { publicUrl: string };
    const admin = readFileSync(join(folder, 'data', 'keys', 'admin.token'), 'utf8').trim();
    const client = new Uploader(`${publicUrl}/main`, admin);
    const path = await testPath('kept', noise(100_000, 'kept'));
    assert.equal((await client.push(path)).status, 200);
    using database = disposable(new DatabaseSync(join(folder, 'data', 'slipway.db'), { readOnly: true }));
    const runs = (): unknown => database.prepare('select count(*) n from garbage_run').get()?.['n'];
    while (Number(runs()) < 2) await sleep(50);
    assert.equal((await client.get(`${path.hash}.narinfo`)).status, 200); // young, whatever "keep" says
  } finally {
    const gone = once(server, 'exit');
    server.kill('SIGTERM');
    assert.deepEqual((await gone)[0], 0);
    rmSync(folder, { recursive: true, force: true });
  }
  assert.equal(Buffer.concat(complaints).toString(), '');
});

function disposable(database: DatabaseSync): DatabaseSync & Disposable {
  return Object.assign(database, { [Symbol.dispose]: () => database.close() });
}
