// What stands before several servers: each connection goes to the next one that takes it. Which one answers is nobody's
// business; a connection whose server dies is cut, and the client comes again.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface Balancer extends AsyncDisposable {
  readonly url: string;
  /** Ports of the servers that there are now. */
  ports: readonly number[];
}

export async function openBalancer(): Promise<Balancer> {
  const sockets = new Set<Socket>();
  let turn = 0;
  const balancer = {
    url: '',
    ports: [] as readonly number[],
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  const server = createServer((client) => {
    sockets.add(client);
    client.once('close', () => sockets.delete(client));
    client.on('error', () => client.destroy());
    const first = turn++;
    const order = balancer.ports.map((_, n) => balancer.ports[(first + n) % balancer.ports.length] as number);
    tryNext(client, order);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  balancer.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return balancer;
}

/** A server that is down refuses at once, and the next one is asked. */
function tryNext(client: Socket, [port, ...rest]: readonly number[]): void {
  if (port === undefined) return void client.destroy();
  const upstream = connect(port, '127.0.0.1');
  let connected = false;
  upstream.once('connect', () => {
    connected = true;
    client.pipe(upstream);
    upstream.pipe(client);
  });
  upstream.on('error', () => (connected ? client.destroy() : tryNext(client, rest)));
  upstream.once('close', () => {
    if (connected) client.destroy();
  });
  client.once('close', () => upstream.destroy());
}
