// kill -9 at random moments of ingest: what was accepted is whole afterwards, what was not is gone, the rest is swept.
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { nix32, noise, testPath, Uploader, type TestPath } from '../contract/cache-uploads.ts';

const ROUNDS = Number(process.env['SLIPWAY_CRASH_ROUNDS'] ?? 5);
const folder = mkdtempSync(join(tmpdir(), 'slipway-crash-'));
let running: ChildProcess | undefined;
after(() => {
  running?.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

async function startServer(data: string): Promise<Uploader> {
  const script = join(import.meta.dirname, 'cache-server-main.ts');
  running = spawn(process.execPath, [script, data], { stdio: ['ignore', 'pipe', 'inherit'] });
  assert.ok(running.stdout);
  const [line] = (await once(running.stdout, 'data')) as [Buffer];
  const { url, token } = JSON.parse(line.toString()) as { url: string; token: string };
  return new Uploader(`${url}/main`, token);
}

async function killServer(): Promise<void> {
  const gone = once(running as ChildProcess, 'exit');
  running?.kill('SIGKILL');
  await gone;
}

/** Fresh paths that share chunks with each other. Level 1 and small, so that the test spends its time in the server. */
async function freshPaths(round: number): Promise<TestPath[]> {
  const shared = noise(600_000, 'shared');
  const paths: TestPath[] = [];
  for (let n = 0; n < 6; n++) {
    const contents = Buffer.concat([noise(200_000, `${round} ${n}`), shared]);
    paths.push(await testPath(`path-${round}-${n}`, contents, (nar) => zstdCompressSync(nar)));
  }
  return paths;
}

test(`the cache survives ${ROUNDS} kills -9 during uploads`, async (t) => {
  const data = join(folder, 'data');
  const accepted: TestPath[] = [];
  let cut = 0;
  let client = await startServer(data);
  for (let round = 0; round < ROUNDS; round++) {
    const paths = await freshPaths(round);
    const pushing = Promise.allSettled(
      [paths.slice(0, 3), paths.slice(3)].map(async (half) => {
        for (const path of half) {
          const { status } = await client.push(path);
          if (status === 200) accepted.push(path);
        }
      }),
    );
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 500));
    await killServer();
    cut += (await pushing).filter(({ status }) => status === 'rejected').length;
    client = await startServer(data);
    for (const path of accepted) await assertWhole(client, path);
    for (const path of paths.filter((path) => !accepted.includes(path)))
      await assertWholeOrAbsent(client, path);
  }
  // After all that, everything can still be pushed.
  for (const path of await freshPaths(0)) assert.equal((await client.push(path)).status, 200);
  assert.deepEqual(readdirSync(join(data, 'packs', 'tmp')), []);
  t.diagnostic(`${accepted.length} uploads accepted, ${cut} connections cut`);
  await killServer();
});

async function assertWhole(client: Uploader, path: TestPath): Promise<void> {
  assert.equal((await client.get(`${path.hash}.narinfo`, {}, 'HEAD')).status, 200, path.storePath);
  const nar = Buffer.from(await (await client.get(`nar/${nix32(path.nar)}.nar`)).arrayBuffer());
  assert.ok(nar.equals(path.nar), path.storePath);
}

/** The answer may have been lost although the path was accepted. */
async function assertWholeOrAbsent(client: Uploader, path: TestPath): Promise<void> {
  const { status } = await client.get(`${path.hash}.narinfo`, {}, 'HEAD');
  if (status === 200) await assertWhole(client, path);
  else assert.equal(status, 404);
}
