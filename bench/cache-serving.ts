// Serving: narinfos against bare node:http that answers the same bytes, NAR streams against nginx that sends the same
// bytes from a file. In turns; ratios by throughput and by CPU time.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { formatHashBytes } from '../src/nix/hash.ts';
import { formatNarInfo } from '../src/nix/narinfo.ts';
import { parseStorePath, storePathHash } from '../src/nix/store-path.ts';
import { cpuOf, startServer, type ServerChild } from './cache-child.ts';
import type { Corpus, CorpusPath } from './cache-corpus.ts';
import { runLoad } from './cache-load.ts';
import { freePort, median, round, waitUntilAnswers, type PartResult } from './cache-result.ts';

const ROUNDS = 7;
const REQUESTS = 20_000;
const CONNECTIONS = 16;
const TRANSFERS = 8;

export async function measureServing(corpus: Corpus, folder: string): Promise<PartResult> {
  await using slipway = await startServer('slipway', path.join(folder, 'data'));
  for (const one of corpus.rebuild) await upload(slipway, one); // chunks of rebuilds have places to fill in
  const narInfo = await measureNarInfos(slipway, corpus.rebuild);
  const nar = existsSync('/usr/sbin/nginx') ? await measureNars(slipway, corpus.rebuild, folder) : undefined;
  return {
    figures: { narInfo, nar: nar ?? 'nginx is not installed' },
    checks: {
      'narinfo hits >= 70 % of bare node:http': narInfo.hitToBare >= 0.7,
      'narinfo misses no slower than hits': narInfo.missToHit >= 0.9,
      ...(nar && { 'NAR stream >= 80 % of nginx': nar.toNginx >= 0.8 }),
    },
  };
}

export async function upload(server: ServerChild, one: CorpusPath): Promise<void> {
  const storePath = parseStorePath(one.storePath);
  const hash = Buffer.from(one.hash, 'hex');
  const url = `nar/${formatHashBytes(hash, 'nix32')}.nar`;
  await put(server, url, await readFile(one.file));
  const text = formatNarInfo({
    storePath,
    url,
    compression: 'none',
    fileHash: { algo: 'sha256', bytes: hash },
    fileSize: one.size,
    narHash: { algo: 'sha256', bytes: hash },
    narSize: one.size,
    references: [], // a cache is closed, and the order of uploads is not what is measured
    signatures: [],
  });
  await put(server, `${storePathHash(storePath)}.narinfo`, Buffer.from(text));
}

async function put(server: ServerChild, file: string, body: Buffer): Promise<void> {
  const headers = { authorization: `Bearer ${server.token}` };
  const response = await fetch(`${server.url}/main/${file}`, {
    method: 'PUT',
    body: new Uint8Array(body),
    headers,
  });
  if (!response.ok) throw new Error(`PUT ${file}: ${response.status} ${await response.text()}`);
}

const narInfoPath = (one: CorpusPath): string =>
  `/main/${storePathHash(parseStorePath(one.storePath))}.narinfo`;

async function measureNarInfos(slipway: ServerChild, paths: readonly CorpusPath[]) {
  const present = paths.map(narInfoPath);
  const absent = present.map((_, n) => `/main/${String(n).padStart(32, '0')}.narinfo`);
  const body = await (await fetch(`${slipway.url}${present[0] ?? ''}`)).text();
  await using bare = await startServer('bare', body);
  const rounds: { hit: Rate; miss: Rate; base: Rate }[] = [];
  for (let n = 0; n <= ROUNDS; n++)
    rounds.push({
      base: await timeNarInfos(bare, present, 200),
      hit: await timeNarInfos(slipway, present, 200),
      miss: await timeNarInfos(slipway, absent, 404),
    });
  const warm = rounds.slice(1);
  return {
    hitsPerSecond: round(median(warm.map(({ hit }) => hit.perSecond))),
    missesPerSecond: round(median(warm.map(({ miss }) => miss.perSecond))),
    barePerSecond: round(median(warm.map(({ base }) => base.perSecond))),
    hitToBare: round(median(warm.map(({ hit, base }) => base.cpuMs / hit.cpuMs))),
    hitToBareByThroughput: round(median(warm.map(({ hit, base }) => hit.perSecond / base.perSecond))),
    missToHit: round(median(warm.map(({ hit, miss }) => hit.cpuMs / miss.cpuMs))),
  };
}

async function timeNarInfos(server: ServerChild, urls: readonly string[], status: number): Promise<Rate> {
  const before = await server.usage();
  const load = { origin: server.url, paths: urls, requests: REQUESTS, connections: CONNECTIONS };
  const ms = await runLoad(load, status);
  return { perSecond: REQUESTS / (ms / 1000), cpuMs: (await server.usage()).cpuMs - before.cpuMs };
}

interface Rate {
  readonly perSecond: number;
  readonly cpuMs: number;
}

async function measureNars(slipway: ServerChild, paths: readonly CorpusPath[], folder: string) {
  const largest = paths.toSorted((a, b) => b.size - a.size)[0];
  if (largest === undefined) throw new Error('the corpus is empty');
  const file = `nar/${formatHashBytes(Buffer.from(largest.hash, 'hex'), 'nix32')}.nar.zst`;
  const url = `${slipway.url}/main/${file}`;
  const bytes = Buffer.from(await (await fetch(url)).arrayBuffer());
  await using nginx = await startNginx(path.join(folder, 'nginx'), bytes);
  const timed = async (address: string, pid: number) => {
    const before = cpuOf(pid);
    const started = performance.now();
    const argv = Array.from({ length: TRANSFERS }, () => ['-o', '/dev/null', address]).flat();
    execFileSync('curl', ['-s', '-f', ...argv]);
    const ms = performance.now() - started;
    return { perSecond: (bytes.length * TRANSFERS) / 1e6 / (ms / 1000), cpuMs: cpuOf(pid) - before };
  };
  const rounds: { own: Rate; base: Rate }[] = [];
  for (let n = 0; n <= ROUNDS; n++)
    rounds.push({ base: await timed(nginx.url, nginx.pid), own: await timed(url, slipway.pid) });
  const warm = rounds.slice(1);
  return {
    bytes: bytes.length,
    megabytesPerSecond: round(median(warm.map(({ own }) => own.perSecond))),
    nginxMegabytesPerSecond: round(median(warm.map(({ base }) => base.perSecond))),
    toNginx: round(median(warm.map(({ own, base }) => own.perSecond / base.perSecond))),
    cpuMsEach: round(median(warm.map(({ own }) => own.cpuMs)) / TRANSFERS),
    nginxCpuMsEach: round(median(warm.map(({ base }) => base.cpuMs)) / TRANSFERS),
  };
}

interface Nginx extends AsyncDisposable {
  readonly url: string;
  readonly pid: number;
}

/** Debian's nginx as it is configured to serve files, in one process. */
async function startNginx(folder: string, bytes: Buffer): Promise<Nginx> {
  await mkdir(folder);
  await writeFile(path.join(folder, 'nar'), bytes);
  const port = await freePort();
  const config = `daemon off; master_process off; pid ${folder}/pid; error_log stderr crit; worker_processes 1;
events { worker_connections 64; }
http { access_log off; sendfile on; tcp_nopush on; client_body_temp_path ${folder}/a; proxy_temp_path ${folder}/b;
  fastcgi_temp_path ${folder}/c; uwsgi_temp_path ${folder}/d; scgi_temp_path ${folder}/e;
  server { listen 127.0.0.1:${port}; root ${folder}; } }
`;
  await writeFile(path.join(folder, 'conf'), config);
  const child = spawn('/usr/sbin/nginx', ['-c', path.join(folder, 'conf'), '-p', folder], {
    stdio: 'inherit',
  });
  const url = `http://127.0.0.1:${port}/nar`;
  await waitUntilAnswers(url);
  return {
    url,
    pid: child.pid ?? 0,
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
}
