// The cache's HTTP protocol as a client may count on it, good requests and bad ones. No nix needed.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { readStorageFigures } from '../../src/cache/storage-figures.ts';
import { decompressed } from '../../src/cache/ingest/decompress.ts';
import { fingerprint, parseNarInfo } from '../../src/nix/narinfo.ts';
import {
  generateSecretKey,
  parsePublicKey,
  parseSecretKey,
  publicKeyOf,
  signText,
  verifyText,
} from '../../src/nix/signature.ts';
import { issueToken, openCacheServer, type CacheServer } from './cache-server.ts';
import { narInfo, nix32, noise, pathNamed, testPath, Uploader, type TestPath } from './cache-uploads.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-protocol-'));
const server = await openCacheServer(join(folder, 'data'));
const writer = new Uploader(`${server.url}/main`, await issueToken(server, 'write:main'));
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const LARGE = await testPath('large', noise(5_000_000, 'large'));
assert.equal((await writer.push(LARGE)).status, 200);

async function served(path: TestPath): Promise<string | undefined> {
  const response = await writer.get(`${path.hash}.narinfo`);
  return response.status === 200 ? await response.text() : undefined;
}

async function unzstd(bytes: Buffer): Promise<Buffer> {
  async function* whole(): AsyncIterable<Buffer> {
    yield await Promise.resolve(bytes);
  }
  const parts: Buffer[] = [];
  for await (const part of decompressed(whole(), 'zstd')) parts.push(part);
  return Buffer.concat(parts);
}

function packInTwo(nar: Buffer): Buffer {
  return Buffer.concat([zstdCompressSync(nar.subarray(0, 50)), zstdCompressSync(nar.subarray(50))]);
}

async function bodyOf(response: Response): Promise<Buffer> {
  return Buffer.from(await response.arrayBuffer());
}

test('GET nix-cache-info tells store, priority and that many paths may be asked for', async () => {
  const response = await fetch(`${server.url}/main/nix-cache-info`);
  assert.equal(await response.text(), 'WantMassQuery: 1\nStoreDir: /nix/store\nPriority: 30\n');
  assert.equal(response.headers.get('content-type'), 'text/x-nix-cache-info');
});

test('PUT of nix-cache-info is taken when it agrees and refused when it does not', async () => {
  assert.equal((await writer.put('nix-cache-info', 'StoreDir: /nix/store\n')).status, 200);
  assert.equal((await writer.put('nix-cache-info', 'StoreDir: /gnu/store\n')).status, 400);
});

test('GET of a narinfo gives a content-named URL and a valid signature of the cache', async () => {
  const text = await served(LARGE);
  assert.ok(text);
  const info = parseNarInfo(text);
  assert.equal(info.url, `nar/${nix32(LARGE.nar)}.nar.zst`);
  assert.equal(info.compression, 'zstd');
  const secret = parseSecretKey(readFileSync(join(server.data, 'keys', 'cache-main.key'), 'utf8'));
  const key = parsePublicKey(publicKeyOf(secret));
  assert.ok(verifyText([key], fingerprint(info), info.signatures[0] ?? ''));
});

test('GET of a NAR gives the same bytes compressed and plain, with their lengths', async () => {
  const packed = await writer.get(`nar/${nix32(LARGE.nar)}.nar.zst`);
  const body = await bodyOf(packed);
  assert.equal(Number(packed.headers.get('content-length')), body.length);
  assert.ok((await unzstd(body)).equals(LARGE.nar));
  const plain = await writer.get(`nar/${nix32(LARGE.nar)}.nar`);
  assert.equal(Number(plain.headers.get('content-length')), LARGE.nar.length);
  assert.ok((await bodyOf(plain)).equals(LARGE.nar));
});

test('HEAD gives the headers of GET and no body', async () => {
  for (const path of [`${LARGE.hash}.narinfo`, `nar/${nix32(LARGE.nar)}.nar.zst`, 'nix-cache-info']) {
    const [head, get] = [await writer.get(path, {}, 'HEAD'), await writer.get(path)];
    assert.equal(head.status, 200);
    assert.equal(head.headers.get('content-length'), get.headers.get('content-length'));
    assert.equal(head.headers.get('etag'), get.headers.get('etag'));
    assert.equal((await bodyOf(head)).length, 0);
  }
});

test('GET with a range gives exactly that slice, of both encodings', async () => {
  for (const suffix of ['.zst', '']) {
    const path = `nar/${nix32(LARGE.nar)}.nar${suffix}`;
    const whole = await bodyOf(await writer.get(path));
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(whole.length - 1), async (a, b) => {
        const [start, end] = [Math.min(a, b), Math.max(a, b)];
        const part = await writer.get(path, { range: `bytes=${start}-${end}` });
        assert.equal(part.status, 206);
        assert.equal(part.headers.get('content-range'), `bytes ${start}-${end}/${whole.length}`);
        assert.ok((await bodyOf(part)).equals(whole.subarray(start, end + 1)));
      }),
      { numRuns: 25 },
    );
    assert.equal((await writer.get(path, { range: `bytes=${whole.length}-` })).status, 416);
  }
});

test('GET resumes with If-Range only when the tag is the one of before', async () => {
  const path = `nar/${nix32(LARGE.nar)}.nar.zst`;
  const etag = (await writer.get(path, {}, 'HEAD')).headers.get('etag') ?? '';
  assert.equal((await writer.get(path, { range: 'bytes=5-', 'if-range': etag })).status, 206);
  assert.equal((await writer.get(path, { range: 'bytes=5-', 'if-range': '"other"' })).status, 200);
  assert.equal((await writer.get(path, { 'if-none-match': etag })).status, 304);
});

test('GET of what is not there is 404, also for names that could be tricks', async () => {
  const names = [
    'x.narinfo',
    `${'0'.repeat(32)}.narinfo`,
    `nar/${'0'.repeat(52)}.nar.zst`,
    'nar/..%2f..%2fetc',
    'log/x',
    '%',
  ];
  for (const name of names) assert.equal((await writer.get(name)).status, 404, name);
});

test('PUT of a NAR shows it to nobody but its writer until its narinfo comes', async () => {
  const path = await testPath('waiting', Buffer.from('waiting'));
  assert.equal((await writer.put(path.url, path.file)).status, 200);
  const other = new Uploader(`${server.url}/main`, await issueToken(server, 'write:main'));
  assert.equal((await writer.get(path.url, {}, 'HEAD')).status, 200);
  assert.equal((await other.get(path.url, {}, 'HEAD')).status, 404);
  assert.equal((await other.put(`${path.hash}.narinfo`, narInfo(path))).status, 400);
  assert.equal((await writer.put(`${path.hash}.narinfo`, narInfo(path))).status, 200);
  assert.equal((await other.get(path.url, {}, 'HEAD')).status, 200);
});

test('PUT takes a zstd stream of many frames that arrive in one buffer', async () => {
  const path = await testPath('frames', noise(300, 'frames'), packInTwo);
  assert.equal((await writer.push(path)).status, 200);
  assert.ok((await bodyOf(await writer.get(`nar/${nix32(path.nar)}.nar`))).equals(path.nar));
});

test('the same path again, compressed otherwise, is welcome and adds its signatures', async () => {
  const contents = Buffer.from('again and again');
  const path = await testPath('again', contents);
  assert.equal((await writer.push(path)).status, 200);
  const repacked = await testPath('again', contents, (nar) =>
    Buffer.concat([zstdCompressSync(nar), zstdCompressSync('')]),
  );
  const key = parseSecretKey(generateSecretKey('builder-1'));
  const signature = signText(key, fingerprint(parseNarInfo(narInfo(path))));
  assert.equal((await writer.push(repacked, { Sig: signature })).status, 200);
  const info = parseNarInfo((await served(path)) ?? '');
  assert.deepEqual(
    info.signatures.map((text) => text.split(':')[0]),
    ['builder-1', 'main-1'],
  );
});

test('a private cache answers 401 alike for present, absent and for a cache that does not exist', async () => {
  const owner = new Uploader(`${server.url}/secret`, await issueToken(server, 'write:secret'));
  const path = await testPath('secret', Buffer.from('secret'));
  assert.equal((await owner.push(path)).status, 200);
  const stranger = await issueToken(server, 'read:main');
  const answers = new Set<string>();
  for (const headers of [{}, { authorization: `Bearer ${stranger}` }, { authorization: 'Bearer slw_wrong' }])
    for (const cache of ['secret', 'not-there'])
      for (const file of [
        `${path.hash}.narinfo`,
        `${'0'.repeat(32)}.narinfo`,
        `nar/${nix32(path.nar)}.nar`,
        'nix-cache-info',
      ]) {
        const response = await fetch(`${server.url}/${cache}/${file}`, {
          headers: headers as Record<string, string>,
        });
        answers.add(
          `${response.status} ${response.headers.get('www-authenticate')} ${await response.text()}`,
        );
      }
  assert.equal(answers.size, 1);
  assert.match([...answers][0] ?? '', /^401 Basic realm="slipway" /);
});

test('netrc: Basic credentials with the token as password open a private cache', async () => {
  const token = await issueToken(server, 'read:secret');
  const basic = Buffer.from(`anyone:${token}`).toString('base64');
  const response = await fetch(`${server.url}/secret/nix-cache-info`, {
    headers: { authorization: `Basic ${basic}` },
  });
  assert.equal(response.status, 200);
});

test('writing needs a scope: 401 without a token, 403 with one that only reads', async () => {
  const path = await testPath('unwelcome', Buffer.from('unwelcome'));
  const nobody = new Uploader(`${server.url}/main`, 'slw_nothing');
  assert.equal((await nobody.put(path.url, path.file)).status, 401);
  const reader = new Uploader(`${server.url}/main`, await issueToken(server, 'read:main'));
  assert.equal((await reader.put(path.url, path.file)).status, 403);
});

test('Expect: 100-continue is answered with the refusal, never with 100, when the token may not write', async () => {
  const { host, hostname, port } = new URL(server.url);
  const answer = await new Promise<string>((resolve) => {
    let text = '';
    const socket = connect(Number(port), hostname, () =>
      socket.write(
        `PUT /main/nar/x.nar HTTP/1.1\r\nhost: ${host}\r\nexpect: 100-continue\r\ncontent-length: 9999999\r\n\r\n`,
      ),
    );
    socket.on('data', (bytes) => (text += bytes.toString()));
    socket.once('close', () => resolve(text));
  });
  assert.match(answer, /^HTTP\/1\.1 401 /);
  assert.doesNotMatch(answer, /100 Continue/);
});

test('other methods are 405, and URLs that are no cache are left to others', async () => {
  assert.equal((await writer.get('nix-cache-info', {}, 'DELETE')).status, 405);
  for (const path of ['/', '/main', '/main/', '/api/x', '/healthz'])
    assert.equal((await fetch(`${server.url}${path}`)).status, 404);
});

test('a build log comes back as it was sent, with its encoding', async () => {
  const name = `log/${'0'.repeat(32)}-hello-1.0.drv`;
  const log = noise(300_000, 'log');
  assert.equal((await writer.put(name, log, { 'content-encoding': 'br' })).status, 200);
  const response = await writer.get(name, {}, 'HEAD');
  assert.equal(response.headers.get('content-encoding'), 'br');
  assert.equal(Number(response.headers.get('content-length')), log.length);
  assert.equal(response.headers.get('content-type'), 'text/plain; charset=utf-8');
  assert.equal((await writer.put(name, 'a newer one')).status, 200);
  assert.equal(await (await writer.get(name)).text(), 'a newer one');
});

test('realisations of old and new Nix are stored, other files are not', async () => {
  const old = `realisations/sha256:${'a'.repeat(64)}!out.doi`;
  for (const name of [old, encodeURI(old), 'build-trace-v2/abc-x.drv/out.doi'])
    assert.equal((await writer.put(name, '{}', { 'content-type': 'application/json' })).status, 200, name);
  assert.equal(await (await writer.get(old)).text(), '{}');
  assert.equal((await writer.put('index.html', '<script>')).status, 404);
});

test('chunks are shared: a second large path costs only what differs', async () => {
  const before = await packBytes(server);
  const edited = Buffer.concat([noise(5_000_000, 'large'), Buffer.from('a few more bytes')]);
  assert.equal((await writer.push(await testPath('large-edited', edited))).status, 200);
  const added = (await packBytes(server)) - before;
  assert.ok(added < 1_000_000, `${added} bytes`);
});

test('questions for narinfos are counted, by whether the path was there', async () => {
  const before = await lookupsOf(server);
  for (const hash of [LARGE.hash, LARGE.hash, pathNamed('nowhere').hash])
    await fetch(`${server.url}/main/${hash}.narinfo`);
  const counted = await lookupsOf(server);
  assert.deepEqual([counted.hits - before.hits, counted.misses - before.misses], [2, 1]);
});

async function lookupsOf({ cache, database }: CacheServer): Promise<{ hits: number; misses: number }> {
  await cache.flushUses();
  const { caches } = await readStorageFigures(database);
  return caches.find(({ name }) => name === 'main')?.lookups ?? { hits: 0, misses: 0 };
}

async function packBytes(of: CacheServer): Promise<number> {
  const rows = await of.database.read.selectFrom('pack').select('size').execute();
  return rows.reduce((sum, { size }) => sum + size, 0);
}
