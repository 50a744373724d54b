// The cache against the real nix: push, substitute with signature checks, resume, logs, private caches, and bad input.
// `make test-nix-pairs` runs it on every pair of storage, with Debian's Nix and with a newer one.
import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { issueToken, openCacheServer } from '../contract/cache-server.ts';
import { openFaultProxy } from '../contract/fault-proxy.ts';
import {
  buildPaths,
  makeNixClient,
  ok,
  publicKeyOfCache,
  temporaryFolder,
  type BuiltPaths,
  type NixClient,
} from './cache-scene.ts';

const folder = temporaryFolder('cache-nix');
const server = await openCacheServer(join(folder.path, 'data'));
const writer = makeNixClient(folder.path, 'writer', await issueToken(server, 'write:main', 'write:secret'));
const paths = await buildPaths(writer, 'one');
const main = `${server.url}/main`;
const secret = `${server.url}/secret`;
after(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

const hashOf = (path: string): string => path.slice('/nix/store/'.length).slice(0, 32);
const push = async (url: string, ...more: string[]) =>
  await writer.run(
    'nix',
    'copy',
    '--store',
    writer.store,
    '--to',
    `${url}?compression=zstd`,
    ...more,
    paths.top,
  );

await ok(push(main));
await ok(push(secret));

/** The files of `built` are in the reader's store as in the builder's. */
function assertSame(reader: NixClient, { dependency }: BuiltPaths, builder = writer): void {
  for (const file of ['lines', 'bin/run']) {
    const original = readFileSync(join(builder.home, 'root', dependency, file));
    assert.ok(readFileSync(join(reader.home, 'root', dependency, file)).equals(original));
  }
}

/** A derivation whose path is known only once it is built. */
function writeFloating(client: NixClient): string {
  const file = join(client.home, 'floating.nix');
  copyFileSync('/bin/busybox', join(client.home, 'busybox'));
  const text = `derivation {
    name = "floating"; system = "x86_64-linux";
    builder = "\${builtins.path { path = ${client.home}; name = "tools"; filter = p: t: baseNameOf p == "busybox"; }}/busybox";
    args = [ "sh" "-c" "echo floating > $out" ];
    __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";
  }`;
  writeFileSync(file, text);
  return file;
}

test('nix copy --to pushes a closure once: the second time nothing is uploaded', async () => {
  const before = server.requests.length;
  // A fresh home has no memory of the first push, so nix must ask.
  const second = makeNixClient(folder.path, 'second', await issueToken(server, 'write:main'));
  await ok(second.run('nix', 'copy', '--store', writer.store, '--to', `${main}?compression=zstd`, paths.top));
  const puts = server.requests.slice(before).filter(({ method }) => method === 'PUT');
  assert.deepEqual(puts, []);
});

test('nix copy --to uploads with the compression that is asked for, and explains what is not taken', async () => {
  const other = makeNixClient(folder.path, 'compressions', await issueToken(server, 'write:main'));
  for (const compression of ['none', 'zstd']) {
    const { dependency } = await buildPaths(writer, compression);
    const url = `${main}?compression=${compression}`;
    await ok(other.run('nix', 'copy', '--store', writer.store, '--to', url, dependency));
    await ok(other.run('nix', 'store', 'verify', '--no-trust', '--store', main, dependency));
  }
  const { dependency } = await buildPaths(writer, 'bzip2');
  const url = `${main}?compression=bzip2`;
  const refused = await other.run('nix', 'copy', '--store', writer.store, '--to', url, dependency);
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /compression=zstd/);
});

test('nix build substitutes from the cache with signature checks on, byte for byte', async () => {
  const reader = makeNixClient(folder.path, 'reader');
  const key = publicKeyOfCache(server, 'main');
  const argv = ['nix', 'build', '--no-link', '--store', reader.store, '--substituters', main];
  await ok(reader.run(...argv, '--trusted-public-keys', key, paths.top));
  assertSame(reader, paths);
  await ok(
    reader.run('nix', 'store', 'verify', '--all', '--store', reader.store, '--trusted-public-keys', key),
  );
});

test('nix store verify finds every byte and a good signature in the cache', async () => {
  const reader = makeNixClient(folder.path, 'verifier');
  const verify = ['nix', 'store', 'verify', '--recursive', '--store', main, paths.top];
  await ok(reader.run(...verify, '--trusted-public-keys', publicKeyOfCache(server, 'main')));
  const key = publicKeyOfCache(server, 'secret');
  assert.notEqual((await reader.run(...verify, '--trusted-public-keys', key)).code, 0);
});

test('nix copy --to without any setting sends xz, and reads from where it has sent it', async () => {
  const own = makeNixClient(folder.path, 'plain', await issueToken(server, 'write:main'));
  const built = await buildPaths(own, 'plain');
  await ok(own.run('nix', 'copy', '--store', own.store, '--to', main, built.top));
  assert.ok(server.requests.some(({ method, url }) => method === 'PUT' && url.endsWith('.nar.xz')));
  const reader = makeNixClient(folder.path, 'plain-reader');
  const build = ['nix', 'build', '--no-link', '--store', reader.store, '--substituters', main];
  await ok(reader.run(...build, '--trusted-public-keys', publicKeyOfCache(server, 'main'), built.top));
  assertSame(reader, built, own);
  // Nix remembers the .nar.xz that it sent, for 30 days; newer ones take nothing but xz from there.
  const again = `local?root=${join(own.home, 'again')}`;
  await ok(own.run('nix', 'copy', '--from', main, '--to', again, '--no-check-sigs', built.top));
  assert.ok(server.requests.some(({ method, url }) => method === 'GET' && url.endsWith('.nar.xz')));
});

test('a download that is cut goes on where it was', async () => {
  await using proxy = await openFaultProxy(server.url);
  const ranges: (string | undefined)[] = [];
  proxy.plan = ({ method, url = '', headers }) => {
    if (method !== 'GET' || !url.includes('/nar/')) return undefined;
    return ranges.push(headers.range) === 1 ? 'cut' : undefined;
  };
  const reader = makeNixClient(folder.path, 'resumer');
  const argv = ['nix', 'build', '--no-link', '--store', reader.store, '--substituters', `${proxy.url}/main`];
  await ok(reader.run(...argv, '--trusted-public-keys', publicKeyOfCache(server, 'main'), paths.top));
  assertSame(reader, paths);
  assert.equal(ranges[0], undefined);
  assert.match(ranges.find((range) => range !== undefined) ?? 'none', /^bytes=[1-9]\d*-$/);
});

test('the outputs of a content-addressed derivation are found by what the cache knows of them', async () => {
  const experimental = ['--experimental-features', 'nix-command flakes ca-derivations'];
  const own = makeNixClient(folder.path, 'floating', await issueToken(server, 'write:main'));
  const file = writeFloating(own);
  const key = publicKeyOfCache(server, 'main');
  const build = (client: NixClient, ...more: string[]) =>
    ok(
      client.run('nix', 'build', ...experimental, '--no-link', '--store', client.store, '-f', file, ...more),
    );
  await build(own);
  const to = `${main}?compression=zstd`;
  await ok(own.run('nix', 'copy', ...experimental, '--store', own.store, '--to', to, '-f', file));
  assert.ok(server.requests.some(({ method, url }) => method === 'PUT' && /\/realisations\//.test(url)));
  const reader = makeNixClient(folder.path, 'floating-reader');
  await build(reader, '--substituters', main, '--trusted-public-keys', key, '--max-jobs', '0');
});

test('nix-store --realise substitutes too', async () => {
  const reader = makeNixClient(folder.path, 'realiser');
  const key = publicKeyOfCache(server, 'main');
  const options = ['--option', 'substituters', main, '--option', 'trusted-public-keys', key];
  await ok(reader.run('nix-store', '--store', reader.store, '--realise', paths.dependency, ...options));
});

test('nix build refuses what another key than the trusted one has signed', async () => {
  const reader = makeNixClient(folder.path, 'distrustful');
  const key = publicKeyOfCache(server, 'secret');
  const argv = ['nix', 'build', '--no-link', '--store', reader.store, '--substituters', main];
  const refused = await reader.run(...argv, '--trusted-public-keys', key, paths.top);
  assert.notEqual(refused.code, 0);
});

test('nix path-info --store finds what is there and not what is not', async () => {
  const reader = makeNixClient(folder.path, 'asker');
  assert.equal(await ok(reader.run('nix', 'path-info', '--store', main, paths.top)), paths.top);
  const missing = await reader.run(
    'nix',
    'path-info',
    '--store',
    main,
    paths.top.replace(hashOf(paths.top), '0'.repeat(32)),
  );
  assert.notEqual(missing.code, 0);
});

test('nix store cat reads a file out of the cache', async () => {
  const reader = makeNixClient(folder.path, 'cat');
  assert.equal(
    await ok(reader.run('nix', 'store', 'cat', '--store', main, `${paths.dependency}/bin/run`)),
    'run',
  );
});

test('nix store copy-log and nix log carry a build log', async () => {
  await ok(writer.run('nix', 'store', 'copy-log', '--store', writer.store, '--to', main, paths.derivation));
  const reader = makeNixClient(folder.path, 'log-reader');
  assert.equal(await ok(reader.run('nix', 'log', '--store', main, paths.top)), 'building one');
});

test('nix copy with write-nar-listing stores the listing', async () => {
  const { dependency } = await buildPaths(writer, 'listing');
  const url = `${main}?compression=zstd&write-nar-listing=true`;
  await ok(writer.run('nix', 'copy', '--store', writer.store, '--to', url, dependency));
  const listing = await fetch(`${main}/${hashOf(dependency)}.ls`);
  assert.equal(listing.headers.get('content-type'), 'application/json');
  assert.ok('root' in ((await listing.json()) as object));
});

test('nix copy --derivation pushes derivations and sources, whose content addresses are checked', async () => {
  await ok(push(main, '--derivation'));
  const info = await fetch(`${main}/${hashOf(paths.derivation)}.narinfo`);
  assert.match(await info.text(), /^CA: text:sha256:/m);
});

test('a private cache serves its readers and answers all others with the same 401', async () => {
  const reader = makeNixClient(folder.path, 'private-reader', await issueToken(server, 'read:secret'));
  assert.equal(await ok(reader.run('nix', 'path-info', '--store', secret, paths.top)), paths.top);
  const stranger = makeNixClient(folder.path, 'stranger', await issueToken(server, 'read:main'));
  assert.notEqual((await stranger.run('nix', 'path-info', '--store', secret, paths.top)).code, 0);
});

test('a token that may only read cannot push, and nix shows why', async () => {
  const reader = makeNixClient(folder.path, 'reading-pusher', await issueToken(server, 'read:main'));
  const { dependency } = await buildPaths(writer, 'unwanted');
  const refused = await reader.run(
    'nix',
    'copy',
    '--store',
    writer.store,
    '--to',
    `${main}?compression=zstd`,
    dependency,
  );
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /may read the cache main, not write/);
});

test('the upload URL that nix remembers keeps answering after the narinfo names another', async () => {
  // nix wrote `nar/<file hash>.nar.zst` into its own disk cache when it pushed; it downloads from there for 30 days.
  const argv = [
    'nix',
    'copy',
    '--from',
    main,
    '--to',
    `local?root=${join(writer.home, 'again')}`,
    '--no-check-sigs',
  ];
  const before = server.requests.length;
  await ok(writer.run(...argv, paths.top));
  const seen = server.requests.slice(before);
  assert.ok(
    seen.every(({ url }) => !url.endsWith('.narinfo')),
    'nix used what it remembers',
  );
  assert.ok(seen.some(({ url, status }) => url.includes('/nar/') && status === 200));
});
