// kill -9 at random moments of garbage collection and of uploads beside it: what is pinned is whole afterwards, nothing
// is served that differs from its name, and the next collection goes on. SLIPWAY_CRASH_ROUNDS sets how many.
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { nix32, noise, testPath, Uploader, type TestPath } from '../contract/cache-uploads.ts';

const ROUNDS = Number(process.env['SLIPWAY_CRASH_ROUNDS'] ?? 4);
const folder = mkdtempSync(join(tmpdir(), 'slipway-gc-crash-'));
const running = new Set<ChildProcess>();
after(() => {
  for (const child of running) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

async function start(program: string, data: string): Promise<{ child: ChildProcess; line: string }> {
  const script = join(import.meta.dirname, program);
  const child = spawn(process.execPath, [script, data], { stdio: ['ignore', 'pipe', 'inherit'] });
  running.add(child);
  assert.ok(child.stdout);
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, line: line.toString() };
}

async function kill(child: ChildProcess): Promise<void> {
  const gone = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined;
  child.kill('SIGKILL');
  await gone;
  running.delete(child);
}

async function startServer(data: string): Promise<{ child: ChildProcess; client: Uploader }> {
  const { child, line } = await start('cache-server-main.ts', data);
  const { url, token } = JSON.parse(line) as { url: string; token: string };
  return { child, client: new Uploader(`${url}/main`, token) };
}

/** Fresh paths that share chunks with each other and with those of other rounds. */
async function freshPaths(round: number): Promise<TestPath[]> {
  const shared = noise(400_000, `shared ${round % 3}`);
  const paths: TestPath[] = [];
  for (let n = 0; n < 5; n++) {
    const contents = Buffer.concat([noise(150_000, `${round} ${n}`), shared]);
    paths.push(await testPath(`path-${round}-${n}`, contents, (nar) => zstdCompressSync(nar)));
  }
  return paths;
}

test(`pinned paths survive ${ROUNDS} kills -9 of a collection and of the server beside it`, async (t) => {
  const data = join(folder, 'data');
  const pinned: TestPath[] = [];
  const others: TestPath[] = [];
  let { child: server, client } = await startServer(data);
  for (let round = 0; round < ROUNDS; round++) {
    const paths = await freshPaths(round);
    for (const [n, path] of paths.entries()) {
      assert.equal((await client.push(path)).status, 200);
      (n === 0 ? pinned : others).push(path);
    }
    // Pins what it is told by name, forgets the uses of the rest, and collects again and again without any grace.
    const collector = await start('cache-gc-main.ts', data);
    const again = Promise.allSettled(paths.map(async (path) => await client.push(path)));
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 400));
    await kill(collector.child);
    if (round % 2 === 1) await kill(server);
    await again;
    if (round % 2 === 1) ({ child: server, client } = await startServer(data));
    for (const path of pinned) await assertWhole(client, path);
    for (const path of others) await assertWholeOrAbsent(client, path);
  }
  t.diagnostic(`${pinned.length} pinned, ${others.length} others`);
  await kill(server);
});

async function assertWhole(client: Uploader, path: TestPath): Promise<void> {
  const nar = Buffer.from(await (await client.get(`nar/${nix32(path.nar)}.nar`)).arrayBuffer());
  assert.ok(nar.equals(path.nar), path.storePath);
}

async function assertWholeOrAbsent(client: Uploader, path: TestPath): Promise<void> {
  const response = await client.get(`nar/${nix32(path.nar)}.nar`);
  const body = Buffer.from(await response.arrayBuffer());
  if (response.status === 200) assert.ok(body.equals(path.nar), path.storePath);
  else assert.equal(response.status, 404);
}
