// `pushClosure()` against a real cache server, from a real store, read back by the real nix.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { appendFileSync, chmodSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { pushClosure, type PushOptions, type PushResult } from '../../src/client/push-closure.ts';
import type { PushProgress } from '../../src/client/push-tally.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { asSlipwayError } from '../../src/util/errors.ts';
import {
  buildPaths,
  issueToken,
  makeNixClient,
  ok,
  openCacheServer,
  publicKeyOfCache,
  temporaryFolder,
  type BuiltPaths,
  type CacheServer,
  type NixClient,
} from './cache-scene.ts';

const folder = temporaryFolder('client-push');
let server: CacheServer;
let builder: NixClient;
let built: BuiltPaths;
let token: string;

before(async () => {
  server = await openCacheServer(path.join(folder.path, 'data'));
  builder = makeNixClient(folder.path, 'builder');
  built = await buildPaths(builder, 'push');
  token = await issueToken(server, 'write:main');
});
after(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

function push(options: Partial<PushOptions> & { paths: PushOptions['paths'] }): Promise<PushResult> {
  return pushClosure({
    target: { url: `${server.url}/main`, token },
    store: { url: builder.store, root: path.join(builder.home, 'root') },
    env: { HOME: builder.home, NIX_CONFIG: 'experimental-features = nix-command\nsubstituters =' },
    ...options,
  });
}

test('pushClosure() sends a closure once, references first, and nix builds from it', async () => {
  const progress: PushProgress[] = [];
  const paths = [parseStorePath(built.top)];
  const first = await push({ paths, onProgress: (step) => progress.push(step) });
  assert.deepEqual([first.pushed, first.present], [2, 0]);
  assert.deepEqual(
    progress.map((step) => step.path),
    [undefined, built.dependency, built.top],
  );
  const again = await push({ paths });
  assert.deepEqual([again.pushed, again.present, again.sentBytes], [0, 2, 0]);

  const reader = makeNixClient(folder.path, 'reader');
  const trust = ['--option', 'trusted-public-keys', publicKeyOfCache(server, 'main')];
  const from = ['--option', 'substituters', `${server.url}/main`, '--max-jobs', '0'];
  await ok(reader.run('nix-store', '--store', reader.store, ...trust, ...from, '--realise', built.top));
  await ok(
    reader.run('nix', '--store', reader.store, 'store', 'verify', '--no-trust', built.top, built.dependency),
  );
});

test('pushClosure() brings a large tree with any names through, by way of a file', async () => {
  const source = path.join(folder.path, 'large-tree');
  mkdirSync(source);
  writeFileSync(path.join(source, 'random'), randomBytes(12_000_000));
  writeFileSync(Buffer.concat([Buffer.from(`${source}/not-utf-8-`), Buffer.from([0xe9])]), 'latin-1');
  symlinkSync(Buffer.from([0xff]), path.join(source, 'link'));
  const added = await ok(builder.run('nix', '--store', builder.store, 'store', 'add-path', source));
  const result = await push({ paths: [parseStorePath(added)] });
  assert.equal(result.pushed, 1);
  const reader = makeNixClient(folder.path, 'large-reader');
  const from = ['--from', `${server.url}/main`, '--no-check-sigs'];
  await ok(reader.run('nix', 'copy', '--store', reader.store, ...from, '--to', reader.store, added));
  await ok(reader.run('nix', '--store', reader.store, 'store', 'verify', '--no-trust', added));
});

test('pushClosure() ends as cancelled, and leaves no file behind', async () => {
  const source = path.join(folder.path, 'endless');
  writeFileSync(source, randomBytes(30_000_000));
  const added = await ok(builder.run('nix', '--store', builder.store, 'store', 'add-file', source));
  const controller = new AbortController();
  const spool = path.join(folder.path, 'spool');
  mkdirSync(spool);
  process.env['TMPDIR'] = spool;
  const pushing = push({
    paths: [parseStorePath(added)],
    signal: controller.signal,
    onProgress: () => setTimeout(() => controller.abort(), 30),
  });
  await assert.rejects(pushing, (error) => asSlipwayError(error).code === 'cancelled');
  delete process.env['TMPDIR'];
  assert.deepEqual(readdirSync(spool), []);
});

test('pushClosure() names a URL where no cache is', async () => {
  const everywhere = await issueToken(server, 'write:*');
  const target = { url: `${server.url}/nowhere`, token: everywhere };
  await assert.rejects(push({ paths: [parseStorePath(built.top)], target }), { code: 'not_found' });
});

test('pushClosure() names a bad token and what to do about it', async () => {
  for (const wrong of ['slw_nonsense', await issueToken(server, 'write:secret')]) {
    await assert.rejects(
      push({
        paths: [parseStorePath((await buildPaths(builder, 'refused')).top)],
        target: { url: `${server.url}/main`, token: wrong },
      }),
      (error: { code?: string; next?: string }) =>
        ['unauthorized', 'forbidden'].includes(error.code ?? '') && error.next !== undefined,
    );
  }
});

test('pushClosure() refuses a path that was changed on disk', async () => {
  const { dependency } = await buildPaths(builder, 'bent');
  const file = path.join(builder.home, 'root', dependency, 'lines');
  chmodSync(file, 0o644);
  appendFileSync(file, 'one line more\n');
  await assert.rejects(push({ paths: [parseStorePath(dependency)] }), { code: 'nar_hash_mismatch' });
});

test('pushClosure() names a path that is not in the store', async () => {
  const absent = parseStorePath('/nix/store/00000000000000000000000000000000-absent');
  await assert.rejects(push({ paths: [absent] }), {
    code: 'not_found',
    message: new RegExp(absent),
  });
});

test('pushClosure() tries again when the cache fails for a moment, and says so when it stays away', async () => {
  const { top } = await buildPaths(builder, 'flaky');
  let failures = 3;
  await using flaky = await relay((to) => (failures-- <= 0 ? to : undefined));
  const result = await push({ paths: [parseStorePath(top)], target: { url: `${flaky.url}/main`, token } });
  assert.equal(result.pushed, 2);
  await using dead = await relay(() => undefined);
  await assert.rejects(push({ paths: [parseStorePath(top)], target: { url: `${dead.url}/main`, token } }), {
    code: 'unavailable',
  });
});

/** A server in front of the cache that answers 503 where `route` gives no way through. */
async function relay(route: (url: string) => string | undefined): Promise<{ url: string } & AsyncDisposable> {
  const front: Server = createServer((request, response) => {
    if (route(server.url) === undefined) {
      request.resume();
      response.writeHead(503).end('a moment please');
      return;
    }
    void forward(request.method ?? 'GET', request.url ?? '/', request, request.headers).then(
      ({ status, body }) => response.writeHead(status).end(body),
      () => response.writeHead(503).end(),
    );
  });
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(front.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      front.closeAllConnections();
      await new Promise((resolve) => front.close(resolve));
    },
  };
}

async function forward(
  method: string,
  url: string,
  body: AsyncIterable<Buffer>,
  headers: Readonly<Record<string, string | string[] | undefined>>,
): Promise<{ status: number; body: Buffer }> {
  const bytes = Buffer.concat(await Array.fromAsync(body));
  const answer = await fetch(`${server.url}${url}`, {
    method,
    headers: {
      authorization: String(headers['authorization']),
      'content-type': String(headers['content-type']),
    },
    ...(['PUT', 'POST'].includes(method) && { body: bytes }),
  });
  return { status: answer.status, body: Buffer.from(await answer.arrayBuffer()) };
}
