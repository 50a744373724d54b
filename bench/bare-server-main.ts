// Bare node:http that answers every request with the bytes that it was given: what the narinfos of a cache are measured by.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

const [body = ''] = process.argv.slice(2);
const server = createServer((_request, response) => {
  response.writeHead(200, ['content-type', 'text/x-nix-narinfo', 'content-length', String(body.length)]);
  response.end(body);
});
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo;
  console.log(JSON.stringify({ publicUrl: `http://127.0.0.1:${port}` }));
});
process.on('SIGTERM', () => process.exit(0));
