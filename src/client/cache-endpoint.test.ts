import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { CacheEndpoint, type CacheBody } from './cache-endpoint.ts';

interface Scene extends AsyncDisposable {
  readonly host: string;
}

/** A server of its own; `onAsk` hears requests that wait for 100 Continue. */
async function serve(onRequest: RequestListener, onAsk?: RequestListener): Promise<Scene> {
  const server = createServer(onRequest);
  if (onAsk) server.on('checkContinue', onAsk);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const LARGE = 20_000_000;

function largeBody(onOpen: () => void): CacheBody {
  return {
    type: 'application/x-nix-nar',
    length: LARGE,
    open: () => {
      onOpen();
      return Readable.from([Buffer.alloc(LARGE)]);
    },
  };
}

async function refuse(_request: IncomingMessage, response: ServerResponse): Promise<void> {
  response.writeHead(403).end(JSON.stringify({ message: 'This token may not write to main.' }));
}

test('CacheEndpoint.put() shows why a large upload is refused, and sends none of it', async () => {
  await using server = await serve(refuse, refuse);
  using endpoint = new CacheEndpoint({ url: `http://${server.host}/main`, token: 't' });
  let opened = 0;
  await assert.rejects(
    endpoint.put(
      'nar/x.nar.zst',
      largeBody(() => opened++),
    ),
    {
      code: 'forbidden',
      message: /This token may not write to main/,
    },
  );
  assert.equal(opened, 0);
});

test('CacheEndpoint.put() sends a large body also where nobody answers 100 Continue', async () => {
  let received = 0;
  const swallow: RequestListener = (request, response) => {
    request.on('data', (chunk: Buffer) => (received += chunk.length));
    request.on('end', () => response.writeHead(201).end());
  };
  await using server = await serve(swallow, swallow);
  using endpoint = new CacheEndpoint({ url: `http://${server.host}/main` });
  await endpoint.put(
    'nar/x.nar.zst',
    largeBody(() => undefined),
  );
  assert.equal(received, LARGE);
});

test('CacheEndpoint tries again when an answer is cut short', async () => {
  let asked = 0;
  await using server = await serve((_request, response) => {
    response.writeHead(200, { 'content-length': '10' });
    if (asked++ > 0) response.end('0123456789');
    else response.write('0123', () => response.destroy());
  });
  using endpoint = new CacheEndpoint({ url: `http://${server.host}/main/` });
  assert.equal(await endpoint.find('nix-cache-info'), '0123456789');
  assert.equal(asked, 2);
});

test('CacheEndpoint ends at once when it is cancelled', async () => {
  await using server = await serve(() => undefined);
  using endpoint = new CacheEndpoint({ url: `http://${server.host}/main` });
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 20);
  await assert.rejects(endpoint.has('x.narinfo', controller.signal), { code: 'cancelled' });
});

test("CacheEndpoint sends a URL's credentials and never shows them", async () => {
  let seen: string | undefined;
  await using server = await serve((request, response) => {
    seen = `${request.headers.authorization} ${request.url}`;
    response.writeHead(401).end();
  });
  using endpoint = new CacheEndpoint({ url: `http://nix:s3cret@${server.host}/main?compression=zstd` });
  await assert.rejects(
    endpoint.has('x.narinfo'),
    (error: Error) => !error.message.includes('s3cret') && error.message.includes('/main/x.narinfo'),
  );
  assert.equal(seen, `Basic ${Buffer.from('nix:s3cret').toString('base64')} /main/x.narinfo`);
});

test('CacheEndpoint.findMissing() asks beside the cache, and says undefined where nobody knows the question', async () => {
  const seen: string[] = [];
  await using server = await serve(async (request, response) => {
    let text = '';
    for await (const piece of request) text += String(piece);
    seen.push(`${request.method} ${request.url} ${text}`);
    const known = request.url === '/prefix/_api/v1/get-missing-paths';
    response.writeHead(known ? 200 : 405).end(known ? '{"missing_paths":["b"]}' : 'no');
  });
  using knows = new CacheEndpoint({ url: `http://${server.host}/prefix/main` });
  assert.deepEqual(await knows.findMissing(['a', 'b']), new Set(['b']));
  assert.deepEqual(seen, [
    'POST /prefix/_api/v1/get-missing-paths {"cache":"main","store_path_hashes":["a","b"]}',
  ]);
  using other = new CacheEndpoint({ url: `http://${server.host}/main` });
  assert.equal(await other.findMissing(['a']), undefined);
});

test('CacheEndpoint.findMissing() does not take another page for an answer', async () => {
  await using server = await serve((_request, response) => void response.end('<html>'));
  using endpoint = new CacheEndpoint({ url: `http://${server.host}/main` });
  assert.equal(await endpoint.findMissing(['a']), undefined);
});
