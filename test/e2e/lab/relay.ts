// A door into a world's network: TCP on the machine's loopback -> unix socket in the world's folder -> TCP inside.
// Unix sockets are found through the file system, so they cross network namespaces.
import { existsSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { sleep, within } from '../../../src/util/deadline.ts';
import type { World } from './world.ts';

export interface Relay {
  /** Port on 127.0.0.1 of the machine. */
  readonly port: number;
  close(): void;
}

/** Opens a door to `inside`, a port of the controller side. `outside` 0 takes any free port. */
export async function openRelay(world: World, inside: number, outside: number): Promise<Relay> {
  const socket = join(world.folder, 'sockets', `port-${inside}`);
  world.start([world.node, join(import.meta.dirname, 'relay-main.ts'), socket, String(inside)]);
  await within(10_000, 'Opening the door into the world', async (signal) => {
    while (!existsSync(socket)) await sleep(20, signal);
  });
  const server = createServer((client) => {
    const target = connect(socket);
    // Either side may hang up at any time; both ends are then closed, which is all there is to do.
    pipeline(client, target, client).catch(() => undefined);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(outside, '127.0.0.1', resolve);
  });
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}
