// Attic's server, built elsewhere and named by ATTICD, given the same NARs in the way its client does: uncompressed, five
// at a time.
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { mapBounded } from '../src/util/concurrency.ts';
import type { CorpusPath } from './cache-corpus.ts';
import { runLoad } from './cache-load.ts';
import { freePort, round, waitUntilAnswers } from './cache-result.ts';

const JOBS = 5;
const REQUESTS = 3000;

export interface AtticFigures {
  readonly pushMs: number;
  readonly narInfosPerSecond: number;
}

/** `undefined` when there is no atticd to measure. */
export async function measureAttic(
  paths: readonly CorpusPath[],
  folder: string,
): Promise<AtticFigures | undefined> {
  const program = process.env['ATTICD'];
  if (program === undefined) return undefined;
  await mkdir(folder);
  const port = await freePort();
  const config = path.join(folder, 'server.toml');
  await writeFile(config, configuration(folder, port));
  const grants = ['--sub', 'bench', '--validity', '1d', '--pull', '*', '--push', '*', '--create-cache', '*'];
  const admin = path.join(path.dirname(program), 'atticadm');
  const token = execFileSync(admin, ['-f', config, 'make-token', ...grants])
    .toString()
    .trim();
  const child = spawn(program, ['-f', config], { stdio: 'ignore' });
  try {
    const origin = `http://127.0.0.1:${port}`;
    await waitUntilAnswers(origin);
    const headers = { authorization: `bearer ${token}` };
    const created = await fetch(`${origin}/_api/v1/cache-config/main`, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body: JSON.stringify({
        keypair: 'Generate',
        is_public: true,
        store_dir: '/nix/store',
        priority: 41,
        upstream_cache_key_names: [],
      }),
    });
    if (!created.ok) throw new Error(`attic: ${created.status} ${await created.text()}`);
    const started = performance.now();
    await mapBounded(paths, JOBS, async (one) => await upload(port, headers, one));
    const pushMs = round(performance.now() - started);
    const narInfos = paths.map((one) => `/main/${one.storePath.slice(11, 43)}.narinfo`);
    const ms = await runLoad({ origin, paths: narInfos, requests: REQUESTS, connections: 16 });
    return { pushMs, narInfosPerSecond: round(REQUESTS / (ms / 1000)) };
  } finally {
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  }
}

async function upload(port: number, headers: Record<string, string>, one: CorpusPath): Promise<void> {
  const info = {
    cache: 'main',
    store_path_hash: one.storePath.slice(11, 43),
    store_path: one.storePath,
    references: [],
    system: null,
    deriver: null,
    sigs: [],
    ca: null,
    nar_hash: `sha256:${one.hash}`,
    nar_size: one.size,
  };
  const sent = request({
    port,
    method: 'PUT',
    path: '/_api/v1/upload-path',
    headers: { ...headers, 'x-attic-nar-info': JSON.stringify(info) },
  });
  const answered = once(sent, 'response');
  await pipeline(createReadStream(one.file, { highWaterMark: 256 * 1024 }), sent);
  const [response] = (await answered) as [IncomingMessage];
  response.resume();
  if (response.statusCode !== 200)
    throw new Error(`attic answered ${response.statusCode} to ${one.storePath}`);
}

/** As `atticd` writes it for a first start: SQLite, local files, its own chunk sizes, zstd. */
function configuration(folder: string, port: number): string {
  return `listen = "127.0.0.1:${port}"
[database]
url = "sqlite://${folder}/server.db?mode=rwc"
[storage]
type = "local"
path = "${folder}/storage"
[chunking]
nar-size-threshold = 65536
min-size = 16384
avg-size = 65536
max-size = 262144
[compression]
type = "zstd"
[garbage-collection]
interval = "0s"
[jwt.signing]
token-hs256-secret-base64 = "${randomBytes(64).toString('base64')}"
`;
}
