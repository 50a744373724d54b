// Clients that are slow, silent or endless: what they hold is given to others, and they are told why.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Readable } from 'node:stream';
import { after, test } from 'node:test';
import { decompressed } from '../../src/cache/ingest/decompress.ts';
import { sleep } from '../../src/util/deadline.ts';
import { issueToken, openCacheServer } from './cache-server.ts';
import { atticPath } from './attic-requests.ts';
import {
  fileNode,
  narInfo,
  narOf,
  nix32,
  noise,
  testPath,
  Uploader,
  type TestPath,
} from './cache-uploads.ts';
import {
  BundleSender,
  bundleOf,
  chunksOf,
  named,
  sent,
  wholeBundle,
  type SentChunk,
} from './upload-bundles.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-connections-'));
const PACE = { patienceMs: 800, slowest: 10_000 };
const server = await openCacheServer(join(folder, 'data'), { pace: PACE });
const token = await issueToken(server, 'write:main');
const writer = new Uploader(`${server.url}/main`, token);
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

interface RawRequest {
  /** `METHOD /path` */
  readonly line: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** What a client hears that sends the pieces, so long as they come and the server listens. */
async function raw(request: RawRequest, pieces: AsyncIterable<Buffer>): Promise<string> {
  const { hostname, port } = new URL(server.url);
  const socket = connect(Number(port), hostname);
  const heard: Buffer[] = [];
  const closed = new Promise<void>((resolve) => socket.once('close', resolve));
  socket.on('data', (bytes: Buffer) => heard.push(bytes));
  socket.on('error', () => undefined);
  const headers = { host: hostname, authorization: `Bearer ${token}`, ...request.headers };
  const lines = Object.entries({ ...headers, 'content-length': request.body.length }).map((one) =>
    one.join(': '),
  );
  socket.write(`${request.line} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
  for await (const piece of pieces) {
    if (heard.length > 0 || !socket.writable) break;
    if (!socket.write(piece)) await Promise.race([closed, new Promise((done) => socket.once('drain', done))]);
  }
  await closed;
  return Buffer.concat(heard).toString();
}

async function* slowly(body: Buffer, step: number, pauseMs: number): AsyncIterable<Buffer> {
  for (let at = 0; at < body.length; at += step) {
    yield body.subarray(at, at + step);
    await sleep(pauseMs);
  }
}

const crumbs = (body: Buffer): AsyncIterable<Buffer> => slowly(body, 1, 40);
const silence = (): AsyncIterable<Buffer> => slowly(Buffer.alloc(0), 1, 40);

test('a body that comes too slowly is refused on every door, and tells why', async () => {
  const path = await testPath('slow', noise(500_000, 'slow'));
  const { info, nar } = await atticPath('main', 'slow-attic', noise(500_000, 'slow attic'));
  const put = { line: `PUT /main/${path.url}`, body: path.file };
  const narinfo = { line: `PUT /main/${path.hash}.narinfo`, body: Buffer.from(narInfo(path)) };
  const bundle = { line: 'POST /_api/slipway/v1/caches/main/bundles', body: await wholeBundle(path) };
  const headers = { 'x-attic-nar-info': JSON.stringify(info) };
  const attic = { line: 'PUT /_api/v1/upload-path', body: nar, headers };
  for (const pieces of [crumbs, silence]) {
    const answers = await Promise.all(
      [put, narinfo, bundle, attic].map(async (one) => await raw(one, pieces(one.body))),
    );
    // Old Nix takes 408 for an invitation to send the rest.
    const statuses = answers.map((answer) => Number(answer.split(' ', 2)[1]));
    assert.deepEqual(statuses, [422, 422, 408, 408], answers.join('\n'));
    for (const answer of answers) assert.match(answer, /came too slowly: at least 10000 bytes a second/);
  }
});

test('uploads that stand still lose their turn to those that do not', async () => {
  const path = await testPath('quick', noise(300_000, 'quick'));
  const held = Array.from({ length: 20 }, async (_, n) => {
    const { url, file } = await testPath(`held-${n}`, noise(1_000, `held ${n}`));
    return await raw({ line: `PUT /main/${url}`, body: file }, silence());
  });
  await sleep(50); // all turns are taken by those that say nothing
  assert.equal((await writer.push(path)).status, 200);
  for (const answer of await Promise.all(held)) assert.match(answer, /^HTTP\/1\.1 422 /);
});

test('uploads of one writer that stand still leave turns to others', async () => {
  const path = await testPath('others', noise(1_000, 'others'));
  const other = new Uploader(`${server.url}/main`, await issueToken(server, 'write:main'));
  let answered = 0;
  const held = Array.from({ length: 20 }, async (_, n) => {
    const { url, file } = await testPath(`still-${n}`, noise(1_000, `still ${n}`));
    await raw({ line: `PUT /main/${url}`, body: file }, silence());
    answered++;
  });
  await sleep(50);
  assert.equal((await other.push(path)).status, 200);
  assert.ok(answered <= 12, `waited for ${answered}`); // in one line with them, it would be 13
  await Promise.all(held);
});

test('a slow upload that is fast enough is taken, however long it takes', async () => {
  const path = await testPath('steady', noise(50_000, 'steady'));
  const request = { line: `PUT /main/${path.url}`, body: path.file, headers: { connection: 'close' } };
  const answer = await raw(request, slowly(path.file, 1_000, 30));
  assert.match(answer, /^HTTP\/1\.1 200 /);
});

test('a body that nobody asked for is not taken for ever', async () => {
  const megabyte = Buffer.alloc(1024 * 1024);
  let sent = 0;
  async function* endless(): AsyncIterable<Buffer> {
    for (; sent < 1_000; sent++) yield await Promise.resolve(megabyte);
  }
  const { hostname, port } = new URL(server.url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined).resume();
  socket.write(`GET /main/nix-cache-info HTTP/1.1\r\nhost: x\r\ncontent-length: ${2 ** 40}\r\n\r\n`);
  const closed = new Promise<void>((resolve) => socket.once('close', resolve));
  for await (const piece of endless()) {
    if (!socket.writable) break;
    if (!socket.write(piece)) await Promise.race([closed, new Promise((done) => socket.once('drain', done))]);
  }
  await closed;
  assert.ok(sent < 200, `${sent} MiB were taken`);
});

test('a crowd of clients that take nothing holds little memory, and others download meanwhile', async () => {
  const paths: TestPath[] = [];
  for (let n = 0; n < 6; n++) paths.push(await mixedPath(`large-${n}`, 16));
  const files = paths.map(({ nar }, n) => `nar/${nix32(nar)}.nar${['', '.zst'][n % 2]}`);
  const { hostname, port } = new URL(server.url);
  const before = process.memoryUsage().arrayBuffers;
  const crowd = Array.from({ length: 900 }, (_, n) => {
    const socket = connect(Number(port), hostname);
    socket.on('error', () => undefined).pause();
    socket.write(`GET /main/${files[n % files.length]} HTTP/1.1\r\nhost: x\r\n\r\n`);
    return socket;
  });
  const held = (await heldAfter(3_000)) - before;
  const [path] = paths as [TestPath];
  const body = Buffer.from(await (await writer.get(`nar/${nix32(path.nar)}.nar`)).arrayBuffer());
  for (const socket of crowd) socket.destroy();
  assert.ok(body.equals(path.nar));
  assert.ok(held < 120e6, `${held / 1e6} MB more`);
});

test('who stops in a crowd and goes on later has every byte once', async () => {
  const path = await mixedPath('paused');
  const { hostname, port } = new URL(server.url);
  const answers = Array.from({ length: 150 }, async (_, n) => {
    const suffix = ['', '.zst', '.xz'][n % 3] as string;
    const socket = connect(Number(port), hostname);
    const heard: Buffer[] = [];
    socket.on('data', (bytes: Buffer) => heard.push(bytes)).pause();
    const line = `GET /main/nar/${nix32(path.nar)}.nar${suffix} HTTP/1.1`;
    socket.write(`${line}\r\nhost: x\r\nconnection: close\r\n\r\n`);
    const ended = new Promise((resolve) => socket.once('close', resolve));
    await sleep(500 + n * 5);
    socket.resume();
    await ended;
    return Buffer.concat(heard);
  });
  const bodies = (await Promise.all(answers)).map((answer) =>
    answer.subarray(answer.indexOf('\r\n\r\n') + 4),
  );
  for (const [n, body] of bodies.entries()) assert.ok(body.equals(bodies[n % 3] as Buffer), `answer ${n}`);
  const [raw, zstd] = bodies as [Buffer, Buffer];
  assert.ok(raw.equals(path.nar));
  const frames = decompressed(Readable.from([zstd]), 'zstd');
  assert.ok(Buffer.concat(await Array.fromAsync(frames)).equals(path.nar));
});

test('many questions at once on one connection are answered one after another', async () => {
  const paths = [await mixedPath('asked'), await mixedPath('asked-too')];
  const lines = paths.map(({ nar }) => `GET /main/nar/${nix32(nar)}.nar.zst HTTP/1.1\r\nhost: x\r\n\r\n`);
  const { hostname, port } = new URL(server.url);
  const before = process.memoryUsage().arrayBuffers;
  const socket = connect(Number(port), hostname).pause();
  socket.on('error', () => undefined).write(lines.join('').repeat(300));
  const held = (await heldAfter(1_500)) - before;
  let heard = 0;
  for await (const bytes of socket) if ((heard += (bytes as Buffer).length) > 50e6) break; // some answers
  assert.ok(held < 50e6, `${held / 1e6} MB more`);
});

test('a few kilobytes that stand for gigabytes leave the loop to others', async () => {
  const zeros = await narOf(fileNode(Buffer.alloc(2_000_000)));
  zeros.writeBigUInt64LE(2n ** 36n, zeros.indexOf('contents') + 8); // of a file of 64 GiB
  const [first, zero] = (await chunksOf(zeros)) as [SentChunk, SentChunk];
  const names = Array.from({ length: 1_000 }, () => named(zero));
  const bundles = new BundleSender(server.url, 'main', token);
  const delays = monitorEventLoopDelay({ resolution: 1 });
  delays.enable();
  const answers = Array.from({ length: 6 }, async (_, n) => {
    const start = { kind: 'begin', hash: Buffer.alloc(32, n), size: 2 ** 37 } as const;
    return await bundles.send(bundleOf(start, sent(first), sent(zero), ...names));
  });
  for (const { status } of await Promise.all(answers)) assert.equal(status, 200); // so far they could become NARs
  const most = delays.percentile(90) / 1e6;
  assert.ok(most < 40, `one round of ten takes ${most} ms`); // all six in one round: 100
});

/** Bytes of the buffers that are still there after so long: the least, because some are only not collected yet. */
async function heldAfter(ms: number): Promise<number> {
  await sleep(ms);
  let least = Infinity;
  for (let n = 0; n < 20; n++) {
    least = Math.min(least, process.memoryUsage().arrayBuffers);
    await sleep(50);
  }
  return least;
}

/** So many megabytes and a half, half of which compress. */
async function mixedPath(name: string, megabytes = 4): Promise<TestPath> {
  const text = Buffer.from(randomBytes(40_000).toString('hex').repeat(10));
  const parts = Array.from({ length: megabytes }, () => [randomBytes(800_000), text]);
  const path = await testPath(name, Buffer.concat(parts.flat()));
  assert.equal((await writer.push(path)).status, 200);
  return path;
}
