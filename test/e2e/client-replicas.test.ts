// A push whose bundles go to several servers over one storage: what stands in front of these asks nobody which one knows what.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, request as sendRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { pushClosure } from '../../src/client/push-closure.ts';
import { parseStorePath, type StorePath } from '../../src/nix/store-path.ts';
import { openTestStorage, type TestStorage } from '../contract/cache-storage.ts';
import {
  issueToken,
  makeNixClient,
  ok,
  openCacheServer,
  temporaryFolder,
  type CacheServer,
  type NixClient,
} from './cache-scene.ts';
import { KillSwitch, withKillSwitch } from './crash/kill-switch.ts';

const MB = 1_000_000;
const folder = temporaryFolder('client-replicas');
const data = path.join(folder.path, 'data');
let storage: TestStorage;
let servers: readonly CacheServer[];
let builder: NixClient;

async function keep(): Promise<void> {
  await Promise.resolve();
}

/** The storage for one of several users: it outlives them. */
function lent(whole: TestStorage): TestStorage {
  const { database, blobs } = withKillSwitch(whole, new KillSwitch());
  return {
    database: { ...database, [Symbol.asyncDispose]: keep },
    blobs: { ...blobs, [Symbol.asyncDispose]: keep },
    [Symbol.asyncDispose]: keep,
  };
}

before(async () => {
  mkdirSync(data);
  storage = await openTestStorage(data);
  const open = async (name: string): Promise<CacheServer> =>
    await openCacheServer(path.join(folder.path, name), {
      storage: lent(storage),
      keysDirectory: path.join(data, 'keys'),
      shared: true,
    });
  servers = [await open('one'), await open('two')];
  builder = makeNixClient(folder.path, 'builder');
});
after(async () => {
  for (const server of servers) await server[Symbol.asyncDispose]();
  await storage[Symbol.asyncDispose]();
  await folder.remove();
});

/** Sends bundles to the servers in turn. */
async function openRoundRobin(): Promise<AsyncDisposable & { readonly url: string }> {
  let turn = 0;
  const front = createServer((request, response) => {
    if (request.url?.endsWith('/bundles') === true) turn++;
    const target = new URL(servers[turn % servers.length]?.url ?? '');
    const { method, url, headers } = request;
    const upstream = sendRequest(
      { hostname: target.hostname, port: target.port, method, path: url, headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      },
    );
    upstream.on('continue', () => response.writeContinue());
    upstream.on('error', () => response.destroy());
    request.pipe(upstream);
  });
  front.on('checkContinue', (request, response) => front.emit('request', request, response));
  front.listen(0, '127.0.0.1');
  await once(front, 'listening');
  return {
    url: `http://127.0.0.1:${(front.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      front.closeAllConnections();
      await new Promise((resolve) => front.close(resolve));
    },
  };
}

async function addPath(name: string, files: Readonly<Record<string, Buffer>>): Promise<StorePath> {
  const source = path.join(folder.path, name);
  mkdirSync(source);
  for (const [file, bytes] of Object.entries(files)) writeFileSync(path.join(source, file), bytes);
  return parseStorePath(await ok(builder.run('nix', '--store', builder.store, 'store', 'add-path', source)));
}

/** Half of the parts, and a little of its own. */
function sharedFiles(parts: readonly Buffer[], n: number): Record<string, Buffer> {
  const some = parts.map((_, k) => parts[(n + k) % parts.length] as Buffer).slice(0, parts.length / 2);
  return Object.fromEntries([...some, randomBytes(MB)].map((bytes, k) => [`file-${k}`, bytes]));
}

test('bundles that overlap on different servers lose nothing', async () => {
  await using front = await openRoundRobin();
  const [one] = servers;
  assert.ok(one);
  // Whatever their order is, some name what the one before has brought, while that is under way to the other server.
  const parts = Array.from({ length: 12 }, () => randomBytes(3 * MB));
  const paths = [await addPath('large', { a: randomBytes(26 * MB) })];
  for (let n = 0; n < parts.length; n++) paths.push(await addPath(`shares-${n}`, sharedFiles(parts, n)));
  const read = { bytes: 0, of: 0 };
  await pushClosure({
    target: { url: `${front.url}/main`, token: await issueToken(one, 'write:main') },
    paths,
    store: { url: builder.store, root: path.join(builder.home, 'root') },
    env: { HOME: builder.home, NIX_CONFIG: 'experimental-features = nix-command\nsubstituters =' },
    onProgress: ({ readBytes, narBytes }) => Object.assign(read, { bytes: readBytes, of: narBytes }),
  });
  assert.equal(read.bytes, read.of, 'nothing was begun anew');
  for (const server of servers)
    assert.ok(server.requests.some(({ url, status }) => url.endsWith('/bundles') && status === 200));
  const reader = makeNixClient(folder.path, 'reader');
  const from = ['--from', `${one.url}/main`, '--no-check-sigs'];
  await ok(reader.run('nix', 'copy', '--store', reader.store, ...from, '--to', reader.store, ...paths));
  await ok(reader.run('nix', '--store', reader.store, 'store', 'verify', '--no-trust', ...paths));
});
