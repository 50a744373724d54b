// Pushes by Slipway's own protocol that are cut off: by a broken connection, a lost answer, a server that forgets, kill -9.
// The next push sends only the rest, and what real nix reads back has the bytes that it had.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { pushClosure, type PushOptions } from '../../src/client/push-closure.ts';
import type { PushProgress } from '../../src/client/push-tally.ts';
import { readNarNode } from '../../src/effects/nar-files.ts';
import { readSecretReference } from '../../src/effects/secret-reference.ts';
import { parseStorePath, type StorePath } from '../../src/nix/store-path.ts';
import type { SlipwayError } from '../../src/util/errors.ts';
import { sleep } from '../../src/util/deadline.ts';
import { openFaultProxy } from '../contract/fault-proxy.ts';
import {
  issueToken,
  makeNixClient,
  ok,
  openCacheServer,
  temporaryFolder,
  type CacheServer,
  type NixClient,
} from './cache-scene.ts';

const MB = 1_000_000;
const folder = temporaryFolder('client-resume');
let server: CacheServer;
let builder: NixClient;
let token: string;

before(async () => {
  server = await openCacheServer(path.join(folder.path, 'data'));
  builder = makeNixClient(folder.path, 'builder');
  token = await issueToken(server, 'write:main');
});
after(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

/** A path of some MB that does not compress, so that what is sent can be told. */
async function addPath(name: string, size: number): Promise<StorePath> {
  const source = path.join(folder.path, name);
  mkdirSync(source);
  writeFileSync(path.join(source, 'noise'), randomBytes(size));
  writeFileSync(path.join(source, 'text'), `${builder.store}\n`.repeat(1000));
  return parseStorePath(await ok(builder.run('nix', '--store', builder.store, 'store', 'add-path', source)));
}

function optionsFor(paths: readonly StorePath[], url = server.url): PushOptions {
  return {
    target: { url: `${url}/main`, token },
    paths,
    store: { url: builder.store, root: path.join(builder.home, 'root') },
    env: { HOME: builder.home, NIX_CONFIG: 'experimental-features = nix-command\nsubstituters =' },
  };
}

async function assertReadable(name: string, paths: readonly StorePath[]): Promise<void> {
  const reader = makeNixClient(folder.path, name);
  const from = ['--from', `${server.url}/main`, '--no-check-sigs'];
  await ok(reader.run('nix', 'copy', '--store', reader.store, ...from, '--to', reader.store, ...paths));
  await ok(reader.run('nix', '--store', reader.store, 'store', 'verify', '--no-trust', ...paths));
}

function bundlesTaken(): number {
  return server.requests.filter(({ url, status }) => url.endsWith('/bundles') && status === 200).length;
}

test('a client that is killed has not sent in vain: the next push sends the rest', async () => {
  const added = await addPath('killed', 48 * MB);
  const before = bundlesTaken();
  const child = spawn(
    process.execPath,
    [path.join(import.meta.dirname, 'push-client-main.ts'), JSON.stringify(optionsFor([added]))],
    { stdio: 'ignore' },
  );
  const ended = once(child, 'exit');
  while (bundlesTaken() < before + 2 && child.exitCode === null) await sleep(5);
  child.kill('SIGKILL');
  await ended;
  const taken = bundlesTaken() - before;
  assert.ok(taken >= 2 && taken < 5, `${taken} bundles were taken`);
  const result = await pushClosure(optionsFor([added]));
  const most = 49 * MB - taken * 12 * MB;
  assert.ok(result.sentBytes > 0 && result.sentBytes < most, `${result.sentBytes} bytes of at most ${most}`);
  await assertReadable('after-kill', [added]);
  const again = await pushClosure(optionsFor([added]));
  assert.deepEqual([again.pushed, again.sentBytes], [0, 0]);
});

test('answers that are lost and connections that are cut cost no second sending of everything', async () => {
  const added = await addPath('cut', 30 * MB);
  await using proxy = await openFaultProxy(server.url);
  let bundles = 0;
  proxy.plan = ({ url }) => {
    if (url?.endsWith('/bundles') !== true) return undefined;
    bundles++;
    return bundles === 1 ? 'lose' : bundles === 3 ? 'cut' : undefined;
  };
  const result = await pushClosure(optionsFor([added], proxy.url));
  assert.equal(result.pushed, 1);
  assert.equal(proxy.done, 2);
  await assertReadable('after-cut', [added]);
});

test('what lets only small bodies through gets small bundles; what lets nothing through is named', async () => {
  const added = await addPath('narrow', 30 * MB);
  await using proxy = await openFaultProxy(server.url);
  let most = MB;
  const taken: number[] = [];
  proxy.plan = ({ url, headers }) => {
    if (url?.endsWith('/bundles') !== true) return undefined;
    const size = Number(headers['content-length']);
    if (size > most) return { status: 413, body: '<html><title>413 Request Entity Too Large</title></html>' };
    taken.push(size);
    return undefined;
  };
  const result = await pushClosure(optionsFor([added], proxy.url));
  assert.equal(result.pushed, 1);
  assert.ok(taken.length >= 30 && taken.length < 90, `${taken.length} bundles`);
  assert.ok(proxy.done <= 3, `${proxy.done} were refused`);
  await assertReadable('after-narrow', [added]);
  most = 100_000;
  const other = await addPath('shut', 4 * MB);
  const refusal = /lets not even 1 MiB through \(413\)[^]*client_max_body_size/;
  await assert.rejects(pushClosure(optionsFor([other], proxy.url)), (error: SlipwayError) =>
    refusal.test(`${error.message} ${error.next}`),
  );
});

test('a server that has forgotten the beginning gets the names again, not the bytes', async () => {
  const added = await addPath('forgotten', 30 * MB);
  const steps: PushProgress[] = [];
  // Two servers over the same storage, as behind a load balancer: each knows only what it has taken itself.
  await using other = await openSecondDoor();
  await using proxy = await openTurns([server.url, other.url]);
  const options = {
    ...optionsFor([added], proxy.url),
    onProgress: (step: PushProgress) => void steps.push(step),
  };
  const result = await pushClosure(options);
  assert.equal(result.pushed, 1);
  assert.ok(result.sentBytes < 31 * MB, `${result.sentBytes} bytes`);
  assert.equal(steps.at(-1)?.path, added);
  await assertReadable('after-turns', [added]);
});

/** Another handler over the database and the packs of `server`. */
async function openSecondDoor(): Promise<{ url: string } & AsyncDisposable> {
  const { openBinaryCache } = await import('../../src/cache/binary-cache.ts');
  const { createCacheHandler } = await import('../../src/http/cache-handler.ts');
  const { openTestStorage } = await import('../contract/cache-storage.ts');
  const { createServer } = await import('node:http');
  const { database, blobs } = await openTestStorage(server.data);
  const cache = openBinaryCache({
    database,
    blobs,
    keysDirectory: path.join(server.data, 'keys'),
    sources: {
      spoolDirectory: path.join(folder.path, 'spool'),
      readTree: readNarNode,
      readSecret: readSecretReference,
      onProblem: (error) => void server.failures.push(error),
    },
  });
  const handler = createCacheHandler({
    cache,
    tokens: server.tokens,
    onError: (error) => server.failures.push(error),
  });
  const front = createServer((request, response) => void handler(request, response));
  front.listen(0, '127.0.0.1');
  await once(front, 'listening');
  const { port } = front.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      front.closeAllConnections();
      await new Promise((resolve) => front.close(resolve));
      for (const part of [cache, blobs, database]) await part[Symbol.asyncDispose]();
    },
  };
}

/** Sends bundles to one server after the other. */
async function openTurns(urls: readonly string[]): Promise<{ url: string } & AsyncDisposable> {
  const { createServer, request: start } = await import('node:http');
  let turn = 0;
  const front = createServer((request, response) => {
    const to = urls[(request.url?.endsWith('/bundles') === true ? turn++ : 0) % urls.length] ?? '';
    const onward = start(`${to}${request.url ?? ''}`, { method: request.method, headers: request.headers });
    onward.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    request.pipe(onward);
  });
  front.listen(0, '127.0.0.1');
  await once(front, 'listening');
  const { port } = front.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      front.closeAllConnections();
      await new Promise((resolve) => front.close(resolve));
    },
  };
}

test('a cache that speaks only Nix protocol gets whole NARs', async () => {
  const added = await addPath('old-server', MB);
  await using proxy = await openFaultProxy(server.url);
  proxy.plan = ({ url }) =>
    url?.startsWith('/_api/slipway/') === true ? { status: 404, body: 'no' } : undefined;
  const result = await pushClosure(optionsFor([added], proxy.url));
  assert.equal(result.pushed, 1);
  assert.ok(server.requests.some(({ method, url }) => method === 'PUT' && url.startsWith('/main/nar/')));
  await assertReadable('old-server-reader', [added]);
});

test('a contributor pushes into its overlay; a token that only reads is refused before anything is read', async () => {
  const added = await addPath('tiers', MB);
  const options = optionsFor([added]);
  const reading = { ...options.target, token: await issueToken(server, 'read:main') };
  await assert.rejects(pushClosure({ ...options, target: reading }), { code: 'forbidden' });
  const contributing = { ...options.target, token: await issueToken(server, 'contribute:main') };
  assert.equal((await pushClosure({ ...options, target: contributing })).pushed, 1);
  const rows = await server.database.read
    .selectFrom('store_path')
    .innerJoin('cache', 'cache.id', 'store_path.cache_id')
    .select('cache.name')
    .where('store_path', '=', added)
    .execute();
  // `nix store add-path` makes content-addressed paths, which are published whoever sends them.
  assert.deepEqual(rows.map(({ name }) => name.replace(/~.*/, '~')).toSorted(), ['main', 'main~']);
});
