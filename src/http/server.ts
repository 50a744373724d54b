// One node:http server a listen address: the cache's data plane first (raw, fast), then the app (API, webhooks, page).
// Slow clients: headers have a deadline everywhere; the app's sockets have an idle limit, cache transfers set their own.
import { chmod, unlink } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { getRequestListener, type HttpBindings } from '@hono/node-server';
import { SlipwayError, messageOf } from '../util/errors.ts';
import { ScarceConnections, type ConnectionLimits } from './scarce-connections.ts';
import { formatListenUrl, type ListenAddress } from './listen-address.ts';
import type { AppBindings } from './peer.ts';

/**
 * Answers a request of the cache's data plane; false when the URL is not one of a cache. Without a promise, a narinfo
 * that memory knew has been answered: that is most of all requests, and a promise for each would cost.
 */
export type CacheHandler = (request: IncomingMessage, response: ServerResponse) => Promise<boolean> | boolean;

export interface ServerOptions {
  readonly listen: readonly ListenAddress[];
  readonly app: { fetch: (request: Request, bindings: AppBindings) => Response | Promise<Response> };
  readonly cache?: CacheHandler;
  /** Where an error goes that no answer can carry. */
  readonly onError: (error: unknown) => void;
  /** How long a connection may take to say what it wants, from its first byte or before it. Default: 15 s. */
  readonly headersTimeoutMs?: number;
  /** How many connections an address may have. */
  readonly connections?: ConnectionLimits;
}

export interface OpenServer extends AsyncDisposable {
  /** As clients on this machine use them, with the ports that were really taken. */
  readonly urls: readonly string[];
}

const HEADERS_TIMEOUT_MS = 15_000;
const KEEP_ALIVE_MS = 60_000;
/** An API client that neither reads nor writes for so long is gone; the live view sends something every 15 s. */
const API_IDLE_MS = 60_000;
const CLOSE_GRACE_MS = 3_000;
const CONNECTIONS: ConnectionLimits = { most: 4_096, plenty: 3_072 };

/** Listens on all addresses or on none. */
export async function openServer(options: ServerOptions): Promise<OpenServer> {
  const open: Listener[] = [];
  try {
    for (const address of options.listen) open.push(await openListener(address, options));
  } catch (error) {
    await closeAll(open);
    throw error;
  }
  return {
    urls: open.map(({ address }) => formatListenUrl(address)),
    [Symbol.asyncDispose]: async () => await closeAll(open),
  };
}

interface Listener {
  readonly server: Server;
  readonly address: ListenAddress;
}

async function openListener(address: ListenAddress, options: ServerOptions): Promise<Listener> {
  const handle = newRequestHandler(address, options);
  const headersTimeout = options.headersTimeoutMs ?? HEADERS_TIMEOUT_MS;
  const connectionsCheckingInterval = headersTimeout / 3; // Node looks only so often
  const server = createServer({
    keepAlive: true,
    noDelay: true,
    requestTimeout: 0,
    headersTimeout,
    connectionsCheckingInterval,
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  const connections = new ScarceConnections(server, options.connections ?? CONNECTIONS);
  // One listener: for several, Node copies their list at every request. The cache refuses an upload before its body is sent.
  for (const event of ['request', 'checkContinue'] as const)
    server.on(event, (request, response) => {
      connections.noteRequest(request.socket);
      handle(request, response);
    });
  server.on('clientError', refuseBrokenRequest);
  if (address.kind === 'unix') await removeDeadSocket(address.path);
  await listen(server, address);
  if (address.kind === 'unix') await chmod(address.path, 0o660);
  return { server, address: boundAddress(server, address) };
}

function newRequestHandler(
  address: ListenAddress,
  options: ServerOptions,
): (request: IncomingMessage, response: ServerResponse) => void {
  const answerByApp = getRequestListener((request, bindings) => {
    const { incoming } = bindings as HttpBindings;
    const peer = address.kind === 'unix' ? 'unix' : incoming.socket.remoteAddress;
    return options.app.fetch(request, { peer });
  });
  return (request, response) => {
    const fail = (error: unknown): void => {
      options.onError(error);
      response.destroy();
    };
    try {
      const answered = options.cache?.(request, response) ?? false;
      if (answered !== true) answer(answered, request, response).catch(fail);
    } catch (error) {
      fail(error);
    }
  };

  async function answer(
    answered: Promise<boolean> | boolean,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    if (await answered) return;
    if (request.headers.expect !== undefined) response.writeContinue();
    request.socket.setTimeout(API_IDLE_MS);
    await answerByApp(request, response);
  }
}

/** Node's default would answer 400 too, but would leave half-open sockets when the peer does not close. */
function refuseBrokenRequest(error: Error, socket: Socket): void {
  if (!socket.writable || socket.bytesWritten > 0) return void socket.destroy();
  const status =
    'code' in error && error.code === 'HPE_HEADER_OVERFLOW' ? '431 Headers Too Large' : '400 Bad Request';
  socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`, () => socket.destroy());
}

async function listen(server: Server, address: ListenAddress): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen(address, error)));
    if (address.kind === 'unix') server.listen(address.path, resolve);
    else
      server.listen(
        { port: address.port, ...(address.host !== undefined && { host: address.host }) },
        resolve,
      );
  });
}

function cannotListen(address: ListenAddress, error: Error): SlipwayError {
  const taken = 'code' in error && error.code === 'EADDRINUSE';
  return new SlipwayError(
    taken ? 'conflict' : 'unavailable',
    taken
      ? `Another program listens on ${formatListenUrl(address)} already.`
      : `Cannot listen on ${formatListenUrl(address)}: ${messageOf(error)}`,
    { next: 'Stop it, or choose another address with --listen.', cause: error },
  );
}

function boundAddress(server: Server, address: ListenAddress): ListenAddress {
  const bound = server.address();
  if (address.kind === 'unix' || bound === null || typeof bound === 'string') return address;
  return { ...address, port: bound.port };
}

/** A socket file that nobody answers on is left over from a crash. */
async function removeDeadSocket(path: string): Promise<void> {
  const probe = connect(path);
  const refused = await new Promise<boolean>((resolve) => {
    probe.once('connect', () => resolve(false));
    probe.once('error', (error) => resolve('code' in error && error.code === 'ECONNREFUSED'));
    probe.setTimeout(1_000, () => resolve(false));
  });
  probe.destroy();
  if (refused) await unlink(path);
}

/** Takes no new requests, gives those under way a moment, then cuts them. */
async function closeAll(listeners: readonly Listener[]): Promise<void> {
  await Promise.all(listeners.map(async ({ server }) => await closeServer(server)));
}

async function closeServer(server: Server): Promise<void> {
  const cut = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
  clearTimeout(cut);
}
