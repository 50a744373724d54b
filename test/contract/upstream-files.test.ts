// What upstreams have beside paths: realisations, believed for their signature alone, and debug information.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import type { UpstreamConfig } from '../../src/api/source-config.ts';
import { collectPulledFiles } from '../../src/cache/garbage/collect-contents.ts';
import { quarantineWriter } from '../../src/cache/trust/quarantine.ts';
import { exec } from '../../src/effects/exec.ts';
import {
  parseRealisation,
  parseRealisationName,
  realisationFingerprint,
  type Realisation,
} from '../../src/nix/realisation.ts';
import { parsePublicKey, parseSecretKey, publicKeyOf, verifyText } from '../../src/nix/signature.ts';
import { temporaryFolder } from '../e2e/cache-scene.ts';
import { issueToken, openCacheServer, type CacheServer } from './cache-server.ts';
import { fileNode, narOf, narFile, nix32, noise, pathNamed, testPath, Uploader } from './cache-uploads.ts';
import { openUpstreamServer } from './upstream-server.ts';

const folder = temporaryFolder('upstream-files');
const upstream = await openUpstreamServer();
const server = await openCacheServer(join(folder.path, 'data'));
after(async () => {
  await server[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
  await folder.remove();
});
beforeEach(() => {
  upstream.misbehave = undefined;
});

const config: UpstreamConfig = { url: upstream.url, keys: [upstream.publicKey], sign: false };
await server.cache.caches.configure('main', { upstreams: [config] });
const main = `${server.url}/main`;

let made = 0;

/** Names of a realisation in the old and the new form. */
function names(): readonly [string, string] {
  const hex = `${++made}`.padStart(64, 'a');
  const { storePath } = pathNamed(`drv-${made}.drv`);
  return [`realisations/sha256:${hex}!out.doi`, `build-trace-v2/${storePath.slice(11)}/out.doi`];
}

const OUT = pathNamed('realised').storePath.slice(11);

function textOf(name: string, changes: Record<string, unknown> = {}): string {
  const key = parseRealisationName(name);
  assert.ok(key);
  const fields = key.form === 'hash' ? { dependentRealisations: {}, id: key.id } : {};
  const plain = { ...fields, outPath: OUT, signatures: [] };
  const message = realisationFingerprint(parseRealisation(JSON.stringify(plain), key));
  return JSON.stringify({ ...plain, signatures: [upstream.sign(message)], ...changes });
}

function offer(name: string, text = textOf(name)): void {
  upstream.files.set(`/${name}`, Buffer.from(text));
}

async function get(name: string, cache = main): Promise<{ status: number; text: string }> {
  const response = await fetch(`${cache}/${name}`);
  return { status: response.status, text: await response.text() };
}

function parsed(name: string, text: string): Realisation {
  const key = parseRealisationName(name);
  assert.ok(key);
  return parseRealisation(text, key);
}

async function isKept(name: string, from: CacheServer = server): Promise<boolean> {
  const rows = from.database.read.selectFrom('side_file').select('writer').where('name', '=', name);
  return (await rows.execute()).length > 0;
}

async function kept(name: string, from: CacheServer = server): Promise<void> {
  for (let tries = 0; tries < 500 && !(await isKept(name, from)); tries++)
    await new Promise((resolve) => setTimeout(resolve, 10));
  assert.ok(await isKept(name, from));
}

async function openImpatient(name: string, upstreams: UpstreamConfig[]): Promise<CacheServer> {
  const impatient = await openCacheServer(join(folder.path, name), { lookupMs: 400 });
  await impatient.cache.caches.configure('main', { upstreams });
  return impatient;
}

test('realisations of both forms come with their signature, from storage once the upstream is gone', async () => {
  const key = parsePublicKey(upstream.publicKey);
  for (const name of names()) {
    offer(name);
    const answer = await fetch(`${main}/${encodeURI(name)}`);
    assert.equal(answer.headers.get('content-type'), 'application/json');
    const realisation = parsed(name, await answer.text());
    assert.ok(verifyText([key], realisationFingerprint(realisation), realisation.signatures[0] ?? ''));
    assert.equal((await fetch(`${main}/${name}`, { method: 'HEAD' })).status, 200);
    await kept(name);
    await using restarted = await openCacheServer(join(folder.path, `copy-${made}-${name[0]}`));
    await restarted.cache.caches.configure('main', { upstreams: [config] });
    assert.equal((await get(name, `${restarted.url}/main`)).status, 200);
    await kept(name, restarted);
    await upstream.stop();
    const { status, text } = await get(name, `${restarted.url}/main`);
    await upstream.start();
    assert.equal(status, 200);
    assert.deepEqual(parsed(name, text), realisation);
  }
});

test('50 clients at once are one question; so is the absence that they learn of', async () => {
  const [present, absent] = names();
  offer(present);
  for (const [name, status] of [
    [present, 200],
    [absent, 404],
  ] as const) {
    const before = upstream.requests.length;
    const answers = await Promise.all(Array.from({ length: 50 }, async () => await get(name)));
    assert.deepEqual(new Set(answers.map((one) => one.status)), new Set([status]));
    assert.equal((await get(name)).status, status);
    assert.equal(upstream.requests.length, before + 1);
  }
});

test('unsigned, badly signed, for something else, broken and huge realisations are absent and not kept', async () => {
  const [name, other] = names();
  const [third] = names();
  const forged = upstream.sign('{"something":"else"}');
  const bad: Record<string, string> = {
    unsigned: textOf(name, { signatures: [] }),
    'signed over something else': textOf(name, { signatures: [forged] }),
    'another path than the signed one': textOf(name, { outPath: pathNamed('evil').storePath.slice(11) }),
    'of another derivation': textOf(third),
    'in the other form': textOf(other),
    'no JSON': '<html>Log in</html>',
    'deep JSON': '['.repeat(500_000),
    huge: `${textOf(name)}${' '.repeat(1_100_000)}`,
  };
  for (const [what, text] of Object.entries(bad)) {
    offer(name, text);
    await using wary = await openImpatient(`wary-${what}`, [config]);
    assert.equal((await get(name, `${wary.url}/main`)).status, 404, what);
    assert.equal(await isKept(name, wary), false, what);
  }
});

test('a realisation of an upstream that hangs, or fails, is a quick 404', async () => {
  const [name] = names();
  offer(name);
  for (const status of [0, 500, 401]) {
    upstream.misbehave = (_, response) => {
      if (status > 0) response.writeHead(status).end();
      return true;
    };
    await using impatient = await openImpatient(`slow-${status}`, [config]);
    const started = performance.now();
    assert.equal((await get(name, `${impatient.url}/main`)).status, 404);
    assert.ok(performance.now() - started < 5_000);
  }
});

test('with sign, the own key vouches for a realisation too', async () => {
  await server.cache.caches.configure('secret', { upstreams: [{ ...config, sign: true }] });
  const headers = { authorization: `Bearer ${await issueToken(server, 'read:secret')}` };
  const [text] = await server.cache.keys.readText('secret');
  const own = parsePublicKey(publicKeyOf(parseSecretKey(text ?? '')));
  for (const name of names()) {
    offer(name);
    assert.equal((await get(name, `${server.url}/secret`)).status, 401);
    const body = await (await fetch(`${server.url}/secret/${name}`, { headers })).text();
    const realisation = parsed(name, body);
    const message = realisationFingerprint(realisation);
    assert.ok(realisation.signatures.some((one) => verifyText([own], message, one)));
    assert.equal(realisation.signatures.length, 2);
  }
});

test('what somebody has pushed stands; what was pulled goes with its upstream, or after a while', async () => {
  const [pushed, pulled] = names();
  offer(pushed);
  offer(pulled);
  const uploader = new Uploader(main, await issueToken(server, 'write:main'));
  const own = textOf(pushed, { outPath: pathNamed('own').storePath.slice(11), signatures: [] });
  assert.equal((await uploader.put(pushed, own)).status, 200);
  assert.equal((await get(pushed)).text, own);
  for (const remove of [
    async () => await collectPulledFiles(server.database, Date.now() + 1000),
    async () =>
      (await quarantineWriter(server.database, `upstream:${upstream.url.slice('http://'.length)}`)).sideFiles,
  ]) {
    await server.cache.caches.configure('main', { upstreams: [] });
    await server.cache.caches.configure('main', { upstreams: [{ ...config, sign: made++ % 2 === 0 }] });
    await get(pulled);
    await kept(pulled);
    assert.ok((await remove()) > 0);
    assert.equal(await isKept(pulled), false);
    assert.equal(await isKept(pushed), true);
  }
  await server.cache.caches.configure('main', { upstreams: [config] });
});

const BUILD_ID = '0123456789abcdef0123456789abcdef01234567';
const MEMBER = `lib/debug/.build-id/01/${BUILD_ID.slice(2)}.debug`;

/** Offers debug information as nix does, and gives the URL of its NAR. */
function offerDebug(buildId: string, file: Buffer, archive = `../nar/${nix32(file)}.nar.zst`): string {
  const member = `lib/debug/.build-id/${buildId.slice(0, 2)}/${buildId.slice(2)}.debug`;
  upstream.files.set(`/debuginfo/${buildId}.debug`, Buffer.from(JSON.stringify({ archive, member })));
  upstream.files.set(`/nar/${archive.slice('../nar/'.length)}`, file);
  return archive.slice(3);
}

async function linkOf(buildId: string, cache = main): Promise<{ archive: string; member: string }> {
  const { status, text } = await get(`debuginfo/${buildId}`, cache);
  assert.equal(status, 200);
  return JSON.parse(text) as { archive: string; member: string };
}

test('debug information is found under both of its names, and its NAR comes as the upstream has it', async () => {
  const file = zstdCompressSync(await narOf(fileNode(randomBytes(6_000_000))));
  const url = offerDebug(BUILD_ID, file);
  const link = await linkOf(BUILD_ID);
  assert.deepEqual(link, { archive: `../${url}`, member: MEMBER });
  assert.deepEqual(await linkOf(`${BUILD_ID}.debug`), link);
  assert.equal((await fetch(`${main}/debuginfo/${BUILD_ID}`, { method: 'HEAD' })).status, 404);
  assert.equal((await fetch(`${main}/${url}`, { method: 'HEAD' })).status, 404, 'nix would not send its own');
  const before = upstream.requests.length;
  const clients = Array.from({ length: 10 }, async (_, n) => {
    const response = await fetch(`${main}/${url}`, { headers: { range: `bytes=${n * 1000}-` } });
    return Buffer.from(await response.arrayBuffer()).equals(file.subarray(n * 1000));
  });
  assert.deepEqual(new Set(await Promise.all(clients)), new Set([true]));
  assert.equal(upstream.requests.slice(before).length, 2, 'one HEAD, one GET');
  await upstream.stop();
  assert.equal((await get(`debuginfo/${'9'.repeat(40)}`)).status, 404);
  await upstream.start();
});

test('links out of the cache, or to something else, are absent', async () => {
  const file = zstdCompressSync(await narOf(fileNode(noise(1000, 'links'))));
  const good = { archive: `../nar/${nix32(file)}.nar.zst`, member: MEMBER };
  const links: unknown[] = [
    good,
    { ...good, archive: '../../etc/passwd' },
    { ...good, archive: 'http://169.254.169.254/nar/x' },
    { ...good, archive: good.archive.replace('nar/', 'nar/../') },
    { ...good, member: '../../../etc/shadow' },
    { ...good, member: MEMBER.replace('4567', '4568') },
    { ...good, member: `/${MEMBER}` },
    [],
  ];
  for (const [n, link] of links.entries()) {
    const id = `${n}`.padStart(40, 'f');
    const text = JSON.stringify(link).replaceAll(MEMBER, `lib/debug/.build-id/ff/${id.slice(2)}.debug`);
    upstream.files.set(`/debuginfo/${id}`, Buffer.from(text));
    assert.equal((await get(`debuginfo/${id}`)).status, link === good ? 200 : 404, text);
  }
});

test('a NAR that is not what its name says is a 404, or broken off before its end', async () => {
  const small = zstdCompressSync(await narOf(fileNode(noise(1000, 'small'))));
  const large = zstdCompressSync(await narOf(fileNode(randomBytes(6_000_000))));
  const page = Buffer.from('<html>Log in</html>');
  const bomb = zstdCompressSync(Buffer.alloc(200_000_000));
  for (const file of [small, page, bomb, large]) {
    const named = file === small || file === large ? `${'1'.repeat(52)}.nar.zst` : `${nix32(file)}.nar.zst`;
    upstream.files.set(`/nar/${named}`, file);
    const response = await fetch(`${main}/nar/${named}`);
    if (response.status === 404) continue;
    assert.equal(file, large);
    await assert.rejects(response.arrayBuffer());
  }
  upstream.files.set(`/nar/${nix32(small)}.nar.bz2`, small);
  assert.equal((await get(`nar/${nix32(small)}.nar.bz2`)).status, 404);
});

test('debug information that nix pushed to another Slipway comes through, named by the hash of its NAR', async () => {
  await using far = await openCacheServer(join(folder.path, 'far'));
  const uploader = new Uploader(`${far.url}/main`, await issueToken(far, 'write:main'));
  const path = await testPath('debug', noise(300_000, 'debug'));
  const file = (await exec(['xz', '-c'], { input: path.nar, timeoutMs: 60_000 })).stdout;
  const sent = { ...path, ...narFile(path.nar, file), url: `nar/${nix32(file)}.nar.xz` };
  const id = 'abcdef'.repeat(7).slice(0, 40);
  const member = `lib/debug/.build-id/ab/${id.slice(2)}.debug`;
  const link = JSON.stringify({ archive: `../${sent.url}`, member });
  assert.equal((await uploader.put(`debuginfo/${id}.debug`, link)).status, 200);
  assert.equal(JSON.stringify(await linkOf(id, `${far.url}/main`)), link, 'as it was sent, before its NAR');
  assert.equal((await uploader.push(sent, { Compression: 'xz' })).status, 200);
  await server.cache.caches.configure('main', { upstreams: [{ ...config, url: `${far.url}/main` }] });
  for (const cache of [`${far.url}/main`, main]) {
    const { archive } = await linkOf(id, cache);
    assert.equal(archive, `../nar/${nix32(path.nar)}.nar.xz`);
    const packed = Buffer.from(await (await fetch(`${cache}/debuginfo/${archive}`)).arrayBuffer());
    const { stdout } = await exec(['xz', '-dc'], { input: packed, timeoutMs: 60_000 });
    assert.ok(stdout.equals(path.nar), cache);
  }
  await server.cache.caches.configure('main', { upstreams: [config] });
});
