// A TCP proxy on the loopback that stops speaking: what a network or a server does that neither fails nor goes on. Bytes
// pass unread, so whatever is signed in them stays signed.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/**
 * `pass`: as if it were not there. `silent`: connections are taken, nothing is read or answered. A number: of each answer
 * so many bytes pass, then nothing more.
 */
export type ProxyMode = 'pass' | 'silent' | number;

export interface TcpProxy extends AsyncDisposable {
  readonly url: string;
  /** Counts for what comes from now on, also over connections that are open. */
  mode: ProxyMode;
  /** Connections that are open. */
  readonly connections: number;
}

export async function openTcpProxy(target: string): Promise<TcpProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.once('close', () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    let answered = 0;
    client.on('data', (bytes) => {
      answered = 0;
      if (proxy.mode === 'silent') client.pause();
      else upstream.write(bytes);
    });
    upstream.on('data', (bytes) => {
      if (proxy.mode === 'silent') return;
      const left = proxy.mode === 'pass' ? bytes.length : Math.max(0, proxy.mode - answered);
      answered += bytes.length;
      if (left > 0) client.write(bytes.subarray(0, left));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxy: TcpProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    mode: 'pass',
    get connections() {
      return sockets.size;
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}
