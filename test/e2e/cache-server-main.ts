// Runs the cache server of test/contract/cache-server.ts as a process of its own, to be killed by a test.
// Usage: cache-server-main.ts DATA. Prints one JSON line {"url", "token"} when it listens.
import { issueToken, openCacheServer } from '../contract/cache-server.ts';

const [data = ''] = process.argv.slice(2);
const server = await openCacheServer(data);
const token = await issueToken(server, 'write:main');
process.stdout.write(`${JSON.stringify({ url: server.url, token })}\n`);
