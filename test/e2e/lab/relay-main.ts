// The inner half of a door into a world: listens on a unix socket, connects to a TCP port of the world.
// Usage: relay-main.ts SOCKET PORT
import { connect, createServer } from 'node:net';
import { pipeline } from 'node:stream/promises';

const [socket = '', port = ''] = process.argv.slice(2);

createServer((client) => {
  const target = connect(Number(port), '127.0.0.1');
  pipeline(client, target, client).catch(() => undefined); // either side may hang up at any time
}).listen(socket);
