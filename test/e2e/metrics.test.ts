// GET /metrics of a real server, read by Prometheus's own checker.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { noise, testPath, Uploader } from '../contract/cache-uploads.ts';

const MAIN = join(import.meta.dirname, '../../src/cli/main.ts');

test('GET /metrics counts what happened, passes promtool, and is for those who may see the fleet', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-metrics-'));
  const server = spawn(
    process.execPath,
    [MAIN, 'serve', '--data', folder, '--listen', '127.0.0.1:0', '--public-cache', '--json'],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  try {
    const [line] = (await once(server.stdout, 'data')) as [Buffer];
    const { publicUrl } = JSON.parse(line.toString().split('\n')[0] ?? '') as { publicUrl: string };
    const admin = readFileSync(join(folder, 'keys', 'admin.token'), 'utf8').trim();
    const client = new Uploader(`${publicUrl}/main`, admin);
    const path = await testPath('counted', noise(300_000, 'counted'));
    assert.equal((await client.push(path)).status, 200);
    await (await client.get(path.url)).arrayBuffer();
    for (const hash of [path.hash, '0'.repeat(32)]) await (await client.get(`${hash}.narinfo`)).text();
    const text = await (await fetch(`${publicUrl}/metrics`)).text();
    const checked = spawnSync('promtool', ['check', 'metrics'], { input: text });
    assert.equal(checked.status, 0, `${checked.stderr.toString()}\n${text}`);
    assert.match(text, /^slipway_cache_requests_total\{kind="narinfo",method="GET",outcome="hit"\} 1$/m);
    assert.match(text, /^slipway_cache_requests_total\{kind="narinfo",method="GET",outcome="miss"\} 1$/m);
    assert.match(text, /^slipway_cache_requests_total\{kind="nar",method="PUT",outcome="taken"\} 1$/m);
    assert.match(text, /^slipway_cache_paths\{cache="main"\} 1$/m);
    assert.ok(sample(text, 'slipway_cache_bytes_total{direction="in"}') > 300_000);
    assert.ok(sample(text, 'slipway_cache_bytes_total{direction="out"}') > 300_000);
    assert.ok(sample(text, 'slipway_storage_pack_bytes') > 300_000);
    const proxied = await fetch(`${publicUrl}/metrics`, { headers: { 'x-forwarded-for': '192.0.2.1' } });
    assert.equal(proxied.status, 401);
    const view = readFileSync(join(folder, 'keys', 'view.token'), 'utf8').trim();
    const headers = { 'x-forwarded-for': '192.0.2.1', authorization: `Bearer ${view}` };
    assert.equal((await fetch(`${publicUrl}/metrics`, { headers })).status, 200);
    const stats = spawnSync(process.execPath, [MAIN, 'cache', 'stats', '--data', folder, '--json']);
    const figures = JSON.parse(stats.stdout.toString()) as { contents: number; packBytes: number };
    assert.ok(figures.contents >= 1 && figures.packBytes > 300_000);
  } finally {
    const gone = once(server, 'exit');
    server.kill('SIGTERM');
    await gone;
    rmSync(folder, { recursive: true, force: true });
  }
});

function sample(text: string, name: string): number {
  const line = text.split('\n').find((one) => one.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1));
}
