// The real client of Attic, which needs Nix's C++ libraries to be built: `nix build nixpkgs#attic-client`, then
// `make test-attic ATTIC=./result/bin/attic`, as root. What its requests look like is held by test/contract/attic-*.test.ts.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, test } from 'node:test';
import { exec } from '../../src/effects/exec.ts';
import { sleep } from '../../src/util/deadline.ts';
import { ATTIC_KEY, atticToken } from '../contract/attic-requests.ts';
import { buildPaths, makeNixClient, ok, openCacheServer, temporaryFolder } from './cache-scene.ts';

const attic = resolve(process.env['SLIPWAY_ATTIC'] ?? '');
const folder = temporaryFolder('attic-client');
const server = await openCacheServer(join(folder.path, 'data'), { attic: [ATTIC_KEY] });
const builder = makeNixClient(folder.path, 'builder');
const root = join(builder.home, 'root');
mkdirSync(join(root, 'nix'), { recursive: true });
const all = { r: 1, w: 1, d: 1, cc: 1, cr: 1, cq: 1, cd: 1 };
const token = atticToken({ main: { r: 1, w: 1 }, 'me-*': all });
after(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

const env = {
  HOME: builder.home,
  XDG_CONFIG_HOME: join(builder.home, 'config'),
  XDG_CACHE_HOME: join(builder.home, 'cache'),
  NIX_CONFIG: 'experimental-features = nix-command flakes\nbuild-users-group =\nsandbox = false',
  NIX_REMOTE: undefined,
};
/** The client watches /nix/store itself, so its /nix is the builder's. */
const argv = (...words: string[]): string[] =>
  ['unshare', '--mount', 'sh', '-ec', `mount --bind ${root}/nix /nix; exec "$@"`, 'sh', attic].concat(words);
const run = async (...words: string[]) => await exec(argv(...words), { env, timeoutMs: 60_000 });

/** What is asked of the server meanwhile. */
async function requestsOf(...words: string[]): Promise<string[]> {
  const before = server.requests.length;
  await ok(run(...words));
  return server.requests.slice(before).map(({ method, url, status }) => `${method} ${url} ${status}`);
}

test('attic logs in, and creates, shows and configures a cache', async () => {
  await ok(run('login', 'home', `${server.url}/`, token));
  await ok(run('cache', 'create', 'me-one'));
  const again = await run('cache', 'create', 'me-one');
  assert.match(again.stderr, /CacheAlreadyExists: The cache already exists\./);
  await ok(run('cache', 'configure', 'me-one', '--public', '--priority', '17', '--retention-period', '30d'));
  const shown = (await run('cache', 'info', 'home:me-one')).stderr;
  for (const line of [/Public: true/, /Priority: 17/, /Retention Period: 2592000/, /Public Key: me-one:/])
    assert.match(shown, line);
  await ok(run('cache', 'configure', 'me-one', '--reset-retention-period'));
  assert.match((await run('cache', 'info', 'me-one')).stderr, /Retention Period: Global Default/);
});

test('attic pushes a closure once, with its description in a header or in front of the body', async () => {
  const { top, dependency } = await buildPaths(builder, 'pushed');
  const upload = 'PUT /_api/v1/upload-path 200';
  const asked = ['GET /_api/v1/cache-config/me-one 200', 'POST /_api/v1/get-missing-paths 200'];
  assert.deepEqual(await requestsOf('push', 'me-one', top), [...asked, upload, upload]);
  assert.deepEqual(await requestsOf('push', 'me-one', top), asked);
  const other = await buildPaths(builder, 'preamble');
  assert.deepEqual(await requestsOf('push', 'me-one', '--force-preamble', other.top), [
    ...asked,
    upload,
    upload,
  ]);
  const shared = await run('push', 'main', top);
  assert.equal(shared.stderr.match(/\(deduplicated\)/g)?.length, 2, shared.stderr);
  assert.match(
    (await run('push', 'me-none', dependency)).stderr,
    /NoSuchCache: The requested cache does not exist/,
  );
  assert.match((await run('push', 'other', dependency)).stderr, /Unauthorized/);
});

test('attic use writes what nix needs', async () => {
  await ok(run('use', 'me-one'));
  const conf = readFileSync(join(builder.home, 'config', 'nix', 'nix.conf'), 'utf8');
  const key = /^trusted-public-keys = (\S+)/m.exec(conf)?.[1] ?? '';
  const url = /^substituters = (\S+)/m.exec(conf)?.[1] ?? '';
  assert.equal(url, `${server.url}/me-one`);
  const { top } = await buildPaths(builder, 'pushed');
  const reader = makeNixClient(folder.path, 'reader');
  const build = ['nix', 'build', '--no-link', '--store', reader.store, top];
  await ok(reader.run(...build, '--substituters', url, '--trusted-public-keys', key));
});

test('attic watch-store pushes what is built', async () => {
  const [program = '', ...words] = argv('watch-store', 'me-one');
  const watcher = spawn(program, words, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = new Promise<void>((done) => watcher.stderr.on('data', () => done()));
  await said;
  await sleep(1_000); // it says so before it watches
  const { top } = await buildPaths(builder, 'watched');
  const narinfo = `${server.url}/me-one/${top.slice('/nix/store/'.length).slice(0, 32)}.narinfo`;
  const deadline = Date.now() + 30_000;
  while (!(await fetch(narinfo)).ok && Date.now() < deadline) await sleep(200);
  assert.equal((await fetch(narinfo)).status, 200);
  watcher.kill();
});

test('attic makes a new key, destroys the cache and hears that it is gone', async () => {
  await ok(run('cache', 'configure', 'me-one', '--regenerate-keypair'));
  await ok(run('cache', 'destroy', 'me-one', '--no-confirm'));
  assert.match((await run('cache', 'info', 'me-one')).stderr, /NoSuchCache/);
  await ok(run('login', 'stranger', `${server.url}/`, 'eyJhbGciOiJIUzI1NiJ9.e30.x'));
  const { top } = await buildPaths(builder, 'strange');
  assert.match((await run('push', 'stranger:main', top)).stderr, /Unauthorized: Unauthorized\./);
});
