// An HTTP proxy on the loopback that does to chosen requests what networks and object stores do: errors, silence, cut and
// changed bodies. The request's Host passes unchanged, so that its signature holds.
import { createServer, request as sendRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { Transform } from 'node:stream';

/**
 * `status`: answered with it (and `body`). `hang`: no answer. `cut`: the answer's body ends early with the connection. `flip`: one byte of
 * the request's body changes. `lose`: the server does it, and its answer is lost.
 */
export type Fault = { readonly status: number; readonly body?: string } | 'hang' | 'cut' | 'flip' | 'lose';

export interface FaultProxy extends AsyncDisposable {
  readonly url: string;
  /** Decides each request's fault; none by default. */
  plan: (request: IncomingMessage) => Fault | undefined;
  /** Faults that were done. */
  readonly done: number;
}

export async function openFaultProxy(target: string): Promise<FaultProxy> {
  const { hostname, port } = new URL(target);
  const server = createServer();
  const state = { done: 0 };
  const proxy = {
    url: '',
    plan: (_request: IncomingMessage): Fault | undefined => undefined,
    get done() {
      return state.done;
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  server.on('request', (request, response) => {
    const fault = proxy.plan(request);
    if (fault !== undefined) state.done++;
    if (fault === 'hang') return;
    if (typeof fault === 'object') answer(request, response, fault);
    else forward({ request, response, fault, to: { hostname, port: Number(port) } });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  proxy.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return proxy;
}

function answer(request: IncomingMessage, response: ServerResponse, fault: Fault & object): void {
  request.resume();
  const code = fault.status === 503 ? 'SlowDown' : 'InternalError';
  response.writeHead(fault.status, { 'content-type': 'application/xml' });
  response.end(fault.body ?? `<Error><Code>${code}</Code><Message>fault proxy</Message></Error>`);
}

interface Forwarding {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly fault: Fault | undefined;
  readonly to: { readonly hostname: string; readonly port: number };
}

function forward({ request, response, fault, to }: Forwarding): void {
  const { method, url, headers } = request;
  const upstream = sendRequest({ ...to, method, path: url, headers }, (answer) => {
    if (fault === 'lose') {
      answer.resume();
      answer.once('end', () => response.destroy());
      return;
    }
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    if (fault === 'cut') answer.once('data', (piece: Buffer) => cut(response, piece));
    else answer.pipe(response);
  });
  upstream.on('error', () => response.destroy());
  if (fault === 'flip') request.pipe(flipped()).pipe(upstream);
  else request.pipe(upstream);
}

function cut(response: ServerResponse, piece: Buffer): void {
  response.write(piece.subarray(0, Math.floor(piece.length / 2)), () => response.destroy());
}

function flipped(): Transform {
  let first = true;
  return new Transform({
    transform(piece: Buffer, _encoding, done) {
      const changed = Buffer.from(piece);
      if (first && changed.length > 0) changed[0] = (changed[0] ?? 0) ^ 0xff;
      first = false;
      done(null, changed);
    },
  });
}
