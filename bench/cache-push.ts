// Pushing: a closure that the cache lacks, against the time that single-threaded `zstd -3` takes for its NARs, and a
// closure that is all there. Client and server are two processes. With ATTICD=/path/to/atticd, Attic takes the same NARs.
import { execFileSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pushClosure } from '../src/client/push-closure.ts';
import { formatHashBytes } from '../src/nix/hash.ts';
import { formatNarInfo } from '../src/nix/narinfo.ts';
import { parseStorePath, storePathHash, type StorePath } from '../src/nix/store-path.ts';
import { measureAttic } from './cache-attic.ts';
import { cpuOfChildren, startServer, type ServerChild } from './cache-child.ts';
import type { Corpus, CorpusPath } from './cache-corpus.ts';
import { median, round, type PartResult } from './cache-result.ts';

const ROUNDS = 3;
const PRESENT_PATHS = 5000;
const NIX_CONFIG = [
  'experimental-features = nix-command',
  'substituters =',
  'build-users-group =',
  'require-sigs = false',
];

export async function measurePush(corpus: Corpus, folder: string): Promise<PartResult> {
  const store = await makeStore(folder, corpus.base);
  const rounds: Round[] = [];
  for (let n = 0; n < ROUNDS; n++)
    rounds.push(await pushOnce(store, corpus.base, path.join(folder, `data-${n}`)));
  const present = await pushPresent(folder);
  const attic = await measureAttic(corpus.base, path.join(folder, 'attic'));
  const pushMs = median(rounds.map(({ ms }) => ms));
  const toZstd = round(median(rounds.map(({ ms, zstdMs }) => ms / zstdMs)));
  return {
    figures: {
      pushMs: round(pushMs),
      zstdMs: round(median(rounds.map(({ zstdMs }) => zstdMs))),
      toZstd,
      zstdCpuMs: round(median(rounds.map(({ zstdCpuMs }) => zstdCpuMs))),
      // What it would be on two cores that do nothing else.
      cpuToZstd: round(median(rounds.map((one) => (one.serverCpuMs + one.clientCpuMs) / 2 / one.zstdCpuMs))),
      serverCpuMs: round(median(rounds.map(({ serverCpuMs }) => serverCpuMs))),
      clientCpuMs: round(median(rounds.map(({ clientCpuMs }) => clientCpuMs))),
      present5000Ms: round(present),
      attic: attic ?? 'left out: ATTICD does not name a built atticd',
    },
    checks: {
      'cold push <= 1.2x of zstd -3': toZstd <= 1.2,
      '5,000 present paths < 2 s': present < 2000,
      ...(attic && { 'cold push 3x faster than Attic': attic.pushMs / pushMs >= 3 }),
    },
  };
}

interface Store {
  readonly url: string;
  readonly root: string;
  readonly env: Readonly<Record<string, string>>;
}

/** A real Nix store below the folder with the corpus in it, by way of a cache of files. */
async function makeStore(folder: string, paths: readonly CorpusPath[]): Promise<Store> {
  const cache = path.join(folder, 'files');
  const root = path.join(folder, 'root');
  await mkdir(path.join(cache, 'nar'), { recursive: true });
  await writeFile(path.join(cache, 'nix-cache-info'), 'StoreDir: /nix/store\n');
  for (const one of paths) {
    const storePath = parseStorePath(one.storePath);
    const narHash = { algo: 'sha256', bytes: Buffer.from(one.hash, 'hex') } as const;
    const url = `nar/${formatHashBytes(narHash.bytes, 'nix32')}.nar`;
    await writeFile(path.join(cache, url), await readFile(one.file));
    const info = {
      storePath,
      url,
      compression: 'none',
      narHash,
      narSize: one.size,
      references: [],
      signatures: [],
    };
    await writeFile(path.join(cache, `${storePathHash(storePath)}.narinfo`), formatNarInfo(info));
  }
  const env = { HOME: folder, NIX_CONFIG: NIX_CONFIG.join('\n') };
  const url = `local?root=${root}`;
  const argv = [
    'copy',
    '--no-check-sigs',
    '--from',
    `file://${cache}`,
    '--to',
    url,
    ...paths.map((one) => one.storePath),
  ];
  execFileSync('nix', argv, { env: { ...process.env, ...env }, stdio: 'ignore' });
  return { url, root, env };
}

interface Round {
  readonly ms: number;
  readonly zstdMs: number;
  readonly zstdCpuMs: number;
  readonly serverCpuMs: number;
  readonly clientCpuMs: number;
}

async function pushOnce(store: Store, paths: readonly CorpusPath[], data: string): Promise<Round> {
  await using server = await startServer('slipway', data);
  const children = cpuOfChildren();
  const zstdStarted = performance.now();
  execFileSync('zstd', ['-3', '-T1', '-q', '-c', ...paths.map(({ file }) => file)], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const zstdMs = performance.now() - zstdStarted;
  const zstdCpuMs = cpuOfChildren() - children;
  const before = await server.usage();
  const client = process.cpuUsage();
  const started = performance.now();
  await pushClosure({
    target: { url: `${server.url}/main`, token: server.token },
    paths: paths.map((one) => parseStorePath(one.storePath)),
    store,
    env: store.env,
  });
  const ms = performance.now() - started;
  const { user, system } = process.cpuUsage(client);
  const serverCpuMs = (await server.usage()).cpuMs - before.cpuMs;
  return { ms, zstdMs, zstdCpuMs, serverCpuMs, clientCpuMs: (user + system) / 1000 };
}

/** How long it takes to learn that 5,000 paths are there. They are text files, which Nix adds quickly. */
async function pushPresent(folder: string): Promise<number> {
  const root = path.join(folder, 'many');
  const env = { HOME: folder, NIX_CONFIG: NIX_CONFIG.join('\n') };
  const texts = path.join(folder, 'texts');
  await mkdir(texts);
  const file = path.join(folder, 'many.nix');
  await writeFile(
    file,
    `builtins.genList (n: builtins.toFile "text-\${toString n}" "text \${toString n}") ${PRESENT_PATHS}`,
  );
  const url = `local?root=${root}`;
  const options = { env: { ...process.env, ...env }, maxBuffer: 64 * 1024 * 1024 };
  const listed = execFileSync(
    'nix-instantiate',
    ['--eval', '--read-write-mode', '--strict', '--json', '--store', url, file],
    options,
  );
  const paths = (JSON.parse(listed.toString()) as string[]).map((text) => parseStorePath(text));
  await using server = await startServer('slipway', path.join(folder, 'data-many'));
  const push = async (): Promise<void> => await pushAll(server, paths, { url, root, env });
  await push();
  const started = performance.now();
  await push();
  return performance.now() - started;
}

async function pushAll(server: ServerChild, paths: readonly StorePath[], store: Store): Promise<void> {
  await pushClosure({
    target: { url: `${server.url}/main`, token: server.token },
    paths,
    jobs: 16,
    store,
    env: store.env,
  });
}
