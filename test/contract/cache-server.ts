// A cache server over a data folder, in this process and on a port of its own, for tests that speak HTTP to it.
import { mkdirSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { AtticVerifier } from '../../src/auth/attic-token.ts';
import type { OidcCallers } from '../../src/auth/oidc-callers.ts';
import { openCallers } from '../../src/auth/callers.ts';
import { parseScope } from '../../src/auth/scope.ts';
import { openTokenRegistry, type TokenRegistry } from '../../src/auth/token-registry.ts';
import { openBinaryCache, type BinaryCache } from '../../src/cache/binary-cache.ts';
import { sweep } from '../../src/cache/garbage/sweep.ts';
import { createCacheHandler } from '../../src/http/cache-handler.ts';
import type { UploadPace } from '../../src/http/cache-request.ts';
import { readNarNode } from '../../src/effects/nar-files.ts';
import { readSecretReference } from '../../src/effects/secret-reference.ts';
import type { Database } from '../../src/storage/database.ts';
import { lockDirectory } from '../../src/storage/directory-lock.ts';
import { openTestStorage, type TestStorage } from './cache-storage.ts';

export interface LoggedRequest {
  readonly method: string;
  readonly url: string;
  readonly status: number;
}

export interface CacheServer extends AsyncDisposable {
  readonly url: string;
  readonly data: string;
  readonly database: Database;
  readonly cache: BinaryCache;
  readonly tokens: TokenRegistry;
  readonly requests: LoggedRequest[];
  /** What the server could not tell its clients. Closing throws unless a test has taken these out. */
  readonly failures: unknown[];
  /** What was found wrong with upstreams and the local store. */
  readonly problems: unknown[];
}

export interface CacheServerOptions {
  readonly maxNarSize?: number;
  readonly pace?: UploadPace;
  /** Keys of Attic's tokens. */
  readonly attic?: readonly AtticVerifier[];
  readonly oidc?: OidcCallers;
  /** Closed with the server. Default: that of the data folder. */
  readonly storage?: TestStorage;
  /** Default: `keys` in the data folder. */
  readonly keysDirectory?: string;
  /** Other servers use the same storage. */
  readonly shared?: boolean;
  /** Most time that upstreams may take to answer; by default so long that a busy machine does not matter. */
  readonly lookupMs?: number;
}

/** A server over `data` with the caches `main` (public) and `secret` (private), started as a real one would be. */
export async function openCacheServer(data: string, options: CacheServerOptions = {}): Promise<CacheServer> {
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const lock = lockDirectory(data);
  const { database, blobs } = options.storage ?? (await openTestStorage(data));
  await sweep(database, blobs, { shared: options.shared === true });
  const tokens = openTokenRegistry(database);
  const problems: unknown[] = [];
  const cache = openBinaryCache({
    database,
    blobs,
    keysDirectory: options.keysDirectory ?? join(data, 'keys'),
    sources: {
      spoolDirectory: join(data, 'spool'),
      readTree: readNarNode,
      readSecret: readSecretReference,
      lookupMs: options.lookupMs ?? 30_000,
      onProblem: (error) => problems.push(error),
    },
  });
  await createCaches(cache);
  const requests: LoggedRequest[] = [];
  const failures: unknown[] = [];
  const handler = createCacheHandler({
    cache,
    tokens: openCallers({ tokens, ...options }),
    onError: (error) => failures.push(error),
    ...options,
  });
  const server = createServer({ requestTimeout: 0 });
  server.keepAliveTimeout = 60_000; // as the real server: a busy machine may pause longer than Node's 5 s
  for (const event of ['request', 'checkContinue'] as const)
    server.on(event, (request, response) => {
      const { method = '', url = '' } = request;
      response.once('close', () => requests.push({ method, url, status: response.statusCode }));
      void Promise.resolve(handler(request, response)).then(
        (known) => known || response.writeHead(404).end(),
      );
    });
  const port = await listen(server);
  return {
    url: `http://127.0.0.1:${port}`,
    data,
    database,
    cache,
    tokens,
    requests,
    failures,
    problems,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      for (const part of [cache, tokens, blobs, database]) await part[Symbol.asyncDispose]();
      lock[Symbol.dispose]();
      if (failures.length > 0) throw new AggregateError(failures, 'the server failed');
    },
  };
}

export async function issueToken(server: CacheServer, ...scopes: string[]): Promise<string> {
  const { token } = await server.tokens.create({ name: scopes.join(' '), scopes: scopes.map(parseScope) });
  return token;
}

async function createCaches(cache: BinaryCache): Promise<void> {
  for (const name of ['main', 'secret'])
    if ((await cache.caches.find(name)) === undefined)
      await cache.caches.create({
        name,
        isPublic: name === 'main',
        priority: 30,
        storeDir: '/nix/store',
        closed: true,
      });
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}
