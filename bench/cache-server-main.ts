// The servers that bench/cache.ts measures, each in a process of its own: Slipway's cache over a data folder, or bare
// node:http that answers every request with the bytes that it was given. Tells its CPU time when asked.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createCacheHandler } from '../src/http/cache-handler.ts';
import { issueToken, openCacheServer } from '../test/contract/cache-server.ts';

const [kind = '', argument = ''] = process.argv.slice(2);
if (kind === 'slipway') {
  const scene = await openCacheServer(argument);
  const token = await issueToken(scene, 'write:main');
  // A door of its own: the one of the tests keeps a list of all requests.
  const handler = createCacheHandler({ cache: scene.cache, tokens: scene.tokens, onError: () => undefined });
  const server = createServer({ requestTimeout: 0 }, (request, response) => void handler(request, response));
  await ready(server, token);
} else {
  const server = createServer((_request, response) => {
    response.writeHead(200, [
      'content-type',
      'text/x-nix-narinfo',
      'content-length',
      String(argument.length),
    ]);
    response.end(argument);
  });
  await ready(server, '');
}
process.on('message', () => {
  const { user, system } = process.cpuUsage();
  process.send?.({ kind: 'usage', cpuMs: (user + system) / 1000, rssBytes: process.memoryUsage().rss });
});
process.on('disconnect', () => process.exit(0));

async function ready(server: Server, token: string): Promise<void> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  process.send?.({ kind: 'ready', url: `http://127.0.0.1:${port}`, token });
}
