// The real nix substitutes through a cache from its upstreams: a second Slipway, and plain files that nix itself wrote,
// whose files are compressed with xz. Then without them.
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { exec } from '../../src/effects/exec.ts';
import { parseSecretKey, publicKeyOf } from '../../src/nix/signature.ts';
import {
  buildPaths,
  issueToken,
  makeNixClient,
  ok,
  openCacheServer,
  publicKeyOfCache,
  temporaryFolder,
  type BuiltPaths,
  type NixClient,
} from './cache-scene.ts';

const folder = temporaryFolder('upstream-nix');
const server = await openCacheServer(join(folder.path, 'data'));
const far = await openCacheServer(join(folder.path, 'far'));
const served: Server[] = [];
after(async () => {
  for (const one of served) one.close();
  await server[Symbol.asyncDispose]();
  await far[Symbol.asyncDispose]();
  await folder.remove();
});

const writer = makeNixClient(folder.path, 'writer', await issueToken(far, 'write:main'));
const main = `${server.url}/main`;

/** The files of a folder over plain HTTP. */
async function serveFiles(root: string): Promise<{ readonly url: string; readonly files: Server }> {
  const files = createServer((request, response) => {
    readFile(join(root, decodeURIComponent(request.url ?? ''))).then(
      (bytes) => response.end(request.method === 'HEAD' ? undefined : bytes),
      () => response.writeHead(404).end(),
    );
  });
  served.push(files);
  await new Promise<void>((resolve) => files.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(files.address() as AddressInfo).port}`, files };
}

async function substitute(name: string, paths: BuiltPaths, keys: readonly string[]): Promise<void> {
  const reader = makeNixClient(folder.path, name);
  const argv = ['nix', 'build', '--no-link', '--store', reader.store, '--substituters', main];
  await ok(reader.run(...argv, '--trusted-public-keys', keys.join(' '), paths.top));
  for (const file of ['lines', 'bin/run']) {
    const original = readFileSync(join(writer.home, 'root', paths.dependency, file));
    assert.ok(readFileSync(join(reader.home, 'root', paths.dependency, file)).equals(original));
  }
}

/** What went through is stored a moment later. */
async function kept({ top, dependency }: BuiltPaths): Promise<void> {
  const wanted = server.database.read
    .selectFrom('store_path')
    .select('hash')
    .where('store_path', 'in', [top, dependency]);
  while ((await wanted.execute()).length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
}

test('nix substitutes through the cache from another Slipway, then without it', async () => {
  const paths = await buildPaths(writer, 'far');
  await ok(
    writer.run('nix', 'copy', '--store', writer.store, '--to', `${far.url}/main?compression=zstd`, paths.top),
  );
  const key = publicKeyOfCache(far, 'main');
  await server.cache.caches.configure('main', {
    upstreams: [{ url: `${far.url}/main`, keys: [key], sign: true }],
  });
  const own = publicKeyOfCache(server, 'main');
  await substitute('first', paths, [own]);
  await kept(paths);
  await server.cache.caches.configure('main', { upstreams: [] });
  await substitute('second', paths, [own]);
});

test('nix substitutes through the cache from files that nix wrote, trusting who signed them', async () => {
  const paths = await buildPaths(writer, 'files');
  const root = join(folder.path, 'files');
  const keyFile = join(folder.path, 'files.key');
  await ok(writer.run('sh', '-c', `nix key generate-secret --key-name files-1 > ${keyFile}`));
  await ok(writer.run('nix', 'store', 'sign', '--store', writer.store, '-r', '-k', keyFile, paths.top));
  await ok(
    writer.run('nix', 'copy', '--store', writer.store, '--to', `file://${root}?compression=xz`, paths.top),
  );
  const { url, files } = await serveFiles(root);
  const key = publicKeyOf(parseSecretKey(readFileSync(keyFile, 'utf8')));
  await server.cache.caches.configure('main', { upstreams: [{ url, keys: [key], sign: false }] });
  await substitute('through', paths, [key]);
  await kept(paths);
  await new Promise((resolve) => files.close(resolve));
  await substitute('kept', paths, [key]);
});

/** A content-addressed derivation, whose output only a realisation tells. */
function writeFloating(client: NixClient, name: string): string {
  const file = join(client.home, `${name}.nix`);
  mkdirSync(join(client.home, 'bin'), { recursive: true });
  copyFileSync('/bin/busybox', join(client.home, 'bin', 'busybox'));
  const tools = `builtins.path { path = ${join(client.home, 'bin')}; name = "tools"; }`;
  writeFileSync(
    file,
    `derivation { name = "${name}"; system = "x86_64-linux"; builder = "\${${tools}}/busybox";
      args = [ "sh" "-c" "echo ${name} > $out" ];
      __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; }`,
  );
  return file;
}

const EXPERIMENTAL = ['--experimental-features', 'nix-command flakes ca-derivations'];

for (const signed of [true, false])
  test(`nix ${signed ? 'finds' : 'does not find'} the output of a content-addressed derivation by an upstream's realisation that is ${signed ? 'signed' : 'not signed'}`, async () => {
    const name = signed ? 'floating' : 'unsigned';
    const [keyFile, folderUrl] = [join(folder.path, `${name}.key`), `file://${join(folder.path, name)}`];
    const expression = writeFloating(writer, name);
    await ok(writer.run('sh', '-c', `nix key generate-secret --key-name ${name}-1 > ${keyFile}`));
    const secret = signed ? ['--option', 'secret-key-files', keyFile] : [];
    const flags = [...EXPERIMENTAL, '-f', expression];
    await ok(writer.run('nix', 'build', '--no-link', ...flags, '--store', writer.store, ...secret));
    await ok(writer.run('nix', 'copy', ...flags, '--store', writer.store, '--to', folderUrl));
    const key = publicKeyOf(parseSecretKey(readFileSync(keyFile, 'utf8')));
    const { url } = await serveFiles(join(folder.path, name));
    await server.cache.caches.configure('main', { upstreams: [{ url, keys: [key], sign: false }] });
    const reader = makeNixClient(folder.path, `${name}-reader`);
    const trust = ['--substituters', main, '--trusted-public-keys', key, '--max-jobs', '0'];
    const { code } = await reader.run(
      'nix',
      'build',
      '--no-link',
      ...flags,
      '--store',
      reader.store,
      ...trust,
    );
    assert.equal(code === 0, signed);
  });

test('debug information that nix has indexed is found through the cache', async () => {
  const id = '0123456789'.repeat(4);
  const member = `lib/debug/.build-id/01/${id.slice(2)}.debug`;
  const tree = join(writer.home, 'debug', 'lib', 'debug', '.build-id', '01');
  mkdirSync(tree, { recursive: true });
  writeFileSync(join(tree, `${id.slice(2)}.debug`), 'debug information');
  const path = await ok(
    writer.run('nix', 'store', 'add-path', '--store', writer.store, join(writer.home, 'debug')),
  );
  const to = `${far.url}/main?compression=xz&index-debug-info=true`;
  await ok(writer.run('nix', 'copy', '--store', writer.store, '--to', to, path));
  const keys = [publicKeyOfCache(far, 'main')];
  await server.cache.caches.configure('main', { upstreams: [{ url: `${far.url}/main`, keys, sign: false }] });
  const link = (await (await fetch(`${main}/debuginfo/${id}`)).json()) as { archive: string; member: string };
  assert.equal(link.member, member);
  const packed = Buffer.from(await (await fetch(`${main}/debuginfo/${link.archive}`)).arrayBuffer());
  const { stdout } = await exec(['xz', '-dc'], { input: packed, timeoutMs: 60_000 });
  const dumped = await exec(['nix-store', '--dump', join(writer.home, 'debug')], { timeoutMs: 60_000 });
  assert.ok(stdout.equals(dumped.stdout));
});
