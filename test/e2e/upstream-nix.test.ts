// The real nix substitutes through a cache from its upstreams: a second Slipway, and plain files that nix itself wrote,
// whose files are compressed with xz. Then without them.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
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
} from './cache-scene.ts';

const folder = temporaryFolder('upstream-nix');
const server = await openCacheServer(join(folder.path, 'data'));
const far = await openCacheServer(join(folder.path, 'far'));
const files = join(folder.path, 'files');
const plain = createServer((request, response) => {
  readFile(join(files, decodeURIComponent(request.url ?? ''))).then(
    (bytes) => response.end(bytes),
    () => response.writeHead(404).end(),
  );
});
await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve));
after(async () => {
  plain.close();
  await server[Symbol.asyncDispose]();
  await far[Symbol.asyncDispose]();
  await folder.remove();
});

const writer = makeNixClient(folder.path, 'writer', await issueToken(far, 'write:main'));
const main = `${server.url}/main`;
const plainUrl = `http://127.0.0.1:${(plain.address() as AddressInfo).port}`;

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
  const keyFile = join(folder.path, 'files.key');
  await ok(writer.run('sh', '-c', `nix key generate-secret --key-name files-1 > ${keyFile}`));
  await ok(writer.run('nix', 'store', 'sign', '--store', writer.store, '-r', '-k', keyFile, paths.top));
  await ok(
    writer.run('nix', 'copy', '--store', writer.store, '--to', `file://${files}?compression=xz`, paths.top),
  );
  const key = publicKeyOf(parseSecretKey(readFileSync(keyFile, 'utf8')));
  await server.cache.caches.configure('main', { upstreams: [{ url: plainUrl, keys: [key], sign: false }] });
  await substitute('through', paths, [key]);
  await kept(paths);
  await new Promise((resolve) => plain.close(resolve));
  await substitute('kept', paths, [key]);
});
