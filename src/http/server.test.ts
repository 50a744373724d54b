// The server on real sockets of this machine.
import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { parseListenAddress } from './listen-address.ts';
import { openServer, type CacheHandler, type OpenServer, type ServerOptions } from './server.ts';

async function open(
  listen: readonly string[],
  cache?: CacheHandler,
  limits: Pick<ServerOptions, 'headersTimeoutMs' | 'connections'> = {},
): Promise<OpenServer> {
  return await openServer({
    ...limits,
    listen: listen.map(parseListenAddress),
    app: { fetch: (asked, { peer }) => new Response(`app ${new URL(asked.url).pathname} from ${peer}`) },
    ...(cache && { cache }),
    onError: () => undefined,
  });
}

test('openServer() asks the cache first, then the app', async () => {
  await using server = await open(['127.0.0.1:0'], (asked, answer) => {
    if (asked.url?.startsWith('/main/') !== true) return Promise.resolve(false);
    answer.end('cache');
    return Promise.resolve(true);
  });
  const [url = ''] = server.urls;
  assert.equal(await (await fetch(`${url}/main/nix-cache-info`)).text(), 'cache');
  assert.equal(await (await fetch(`${url}/healthz`)).text(), 'app /healthz from 127.0.0.1');
});

test('openServer() listens on several addresses, sockets among them, and takes over a dead socket', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'slipway-socket-'));
  const socket = path.join(folder, 's.sock');
  try {
    for (let round = 0; round < 2; round++) {
      await using server = await open(['127.0.0.1:0', `unix:${socket}`]);
      assert.equal(server.urls.length, 2);
      assert.equal(await getOverSocket(socket), 'app /x from unix');
      assert.equal((await stat(socket)).mode & 0o777, 0o660);
      await assert.rejects(open([`unix:${socket}`]), (error: unknown) => isCode(error, 'conflict'));
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('openServer() names the address that is taken, and keeps none', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  const taken = `127.0.0.1:${(other.address() as { port: number }).port}`;
  await assert.rejects(open(['127.0.0.1:0', taken]), (error: unknown) => isCode(error, 'conflict'));
  other.close();
});

test('openServer() answers garbage with 400 and closes', async () => {
  await using server = await open(['127.0.0.1:0']);
  const { hostname, port } = new URL(server.urls[0] ?? '');
  const socket = connect(Number(port), hostname);
  socket.end('NOT HTTP\r\n\r\n');
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  assert.match(Buffer.concat(chunks).toString(), /^HTTP\/1\.1 400 /);
});

test('openServer() lets go of connections that do not say what they want', async () => {
  await using server = await open(['127.0.0.1:0'], undefined, { headersTimeoutMs: 300 });
  const { hostname, port } = new URL(server.urls[0] ?? '');
  const beginnings = ['', 'GET', 'GET / HTTP/1.1\r\nhost: x\r\n'];
  const began = Date.now();
  await Promise.all(
    beginnings.map(async (text) => {
      const socket = connect(Number(port), hostname);
      socket.on('error', () => undefined).resume();
      socket.write(text);
      await new Promise((resolve) => socket.once('close', resolve));
    }),
  );
  assert.ok(Date.now() - began < 10_000);
});

test('openServer() refuses headers that are too large or never end', async () => {
  await using server = await open(['127.0.0.1:0']);
  const { hostname, port } = new URL(server.urls[0] ?? '');
  for (const line of [`x: ${'y'.repeat(70_000)}`, 'x: y\r\n'.repeat(20_000), `${'z'.repeat(70_000)}: 1`]) {
    const socket = connect(Number(port), hostname);
    const chunks: Buffer[] = [];
    socket.on('error', () => undefined).on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.write(`GET / HTTP/1.1\r\nhost: x\r\n${line}\r\n\r\n`);
    await new Promise((resolve) => socket.once('close', resolve));
    assert.match(Buffer.concat(chunks).toString(), /^(HTTP\/1\.1 431 |$)/);
  }
  assert.equal((await fetch(server.urls[0] ?? '')).status, 200);
});

test('openServer() has connections for those who ask, however many are held open', async () => {
  await using server = await open(['127.0.0.1:0'], undefined, { connections: { most: 40, plenty: 20 } });
  const { hostname, port } = new URL(server.urls[0] ?? '');
  const held: Socket[] = [];
  const idle = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n';
  for (const text of ['', 'GET / HTTP/1.1\r\n', idle]) {
    for (let n = 0; n < 60; n++) {
      const socket = connect(Number(port), hostname);
      socket.on('error', () => undefined).resume();
      socket.write(text);
      held.push(socket);
      const heard = new Promise((resolve) => socket.once(text === idle ? 'data' : 'connect', resolve));
      await Promise.race([heard, new Promise((resolve) => socket.once('close', resolve))]);
    }
    const asked = await fetch(server.urls[0] ?? '', { headers: { connection: 'close' } });
    assert.equal(asked.status, 200, JSON.stringify(text));
  }
  for (const socket of held) socket.destroy();
});

async function getOverSocket(socketPath: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    const asked = request({ socketPath, path: '/x', agent: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('data', (chunk: string) => (text += chunk));
      answer.on('end', () => resolve(text));
    });
    asked.on('error', reject);
    asked.end();
  });
}
