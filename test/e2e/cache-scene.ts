// A cache server and a Nix store of its own, in a temporary folder, for tests with the real nix.
// The store lies below another root, so nothing of the machine's own /nix is read or written.
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseScope } from '../../src/auth/scope.ts';
import { openTokenRegistry, type TokenRegistry } from '../../src/auth/token-registry.ts';
import { openBinaryCache, type BinaryCache } from '../../src/cache/binary-cache.ts';
import { exec, type ExecResult } from '../../src/effects/exec.ts';
import { createCacheHandler } from '../../src/http/cache-handler.ts';
import { parseSecretKey, publicKeyOf } from '../../src/nix/signature.ts';
import type { Database } from '../../src/storage/database.ts';
import { openDiskBlobStore } from '../../src/storage/disk-blob-store.ts';
import { openSqliteDatabase } from '../../src/storage/sqlite-database.ts';

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
}

/** A server over `data` with the caches `main` (public) and `secret` (private). */
export async function openCacheServer(data: string): Promise<CacheServer> {
  mkdirSync(data, { recursive: true });
  const database = await openSqliteDatabase(join(data, 'slipway.db'));
  const blobs = await openDiskBlobStore(join(data, 'packs'));
  const tokens = openTokenRegistry(database);
  const cache = openBinaryCache({ database, blobs, keysDirectory: join(data, 'keys') });
  for (const name of ['main', 'secret'])
    if ((await cache.caches.find(name)) === undefined)
      await cache.caches.create({
        name,
        isPublic: name === 'main',
        priority: 30,
        storeDir: '/nix/store',
        closed: true,
      });
  const requests: LoggedRequest[] = [];
  const failures: unknown[] = [];
  const handler = createCacheHandler({ cache, tokens, onError: (error) => failures.push(error) });
  const server = createServer({ requestTimeout: 0 });
  for (const event of ['request', 'checkContinue'] as const)
    server.on(event, (request, response) => {
      response.once('close', () => {
        requests.push({
          method: request.method ?? '',
          url: request.url ?? '',
          status: response.statusCode,
        });
      });
      void handler(request, response).then((known) => known || response.writeHead(404).end());
    });
  const port = await listen(server);
  return {
    url: `http://127.0.0.1:${port}`,
    data,
    database,
    cache,
    tokens,
    requests,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await cache[Symbol.asyncDispose]();
      await tokens[Symbol.asyncDispose]();
      await blobs[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
      if (failures.length > 0) throw new AggregateError(failures, 'the server failed');
    },
  };
}

export interface NixClient {
  readonly home: string;
  /** `local?root=…` of the client's store. */
  readonly store: string;
  run(...argv: string[]): Promise<ExecResult>;
}

/** A client with its own home, netrc and empty store. */
export function makeNixClient(directory: string, name: string, token?: string): NixClient {
  const home = join(directory, name);
  mkdirSync(home);
  const netrc = join(home, 'netrc');
  writeFileSync(netrc, token === undefined ? '' : `machine 127.0.0.1 login nix password ${token}\n`, {
    mode: 0o600,
  });
  const config = [
    'experimental-features = nix-command flakes',
    'substituters =',
    'build-users-group =',
    'sandbox = false',
    'require-sigs = true',
    `netrc-file = ${netrc}`,
  ];
  const env = {
    HOME: home,
    XDG_CACHE_HOME: join(home, 'cache'),
    NIX_CONFIG: config.join('\n'),
    NIX_REMOTE: undefined,
  };
  return {
    home,
    store: `local?root=${join(home, 'root')}`,
    run: async (...argv) => await exec(argv, { env, timeoutMs: 60_000 }),
  };
}

export interface BuiltPaths {
  /** An input-addressed path that refers to `dependency`. */
  readonly top: string;
  /** An input-addressed path of a few MB with files, a directory and a symlink. */
  readonly dependency: string;
  /** The derivation of `top`. */
  readonly derivation: string;
}

/** Really builds two paths in the client's store; the builder is a static busybox, as the store has no shell. */
export async function buildPaths(client: NixClient, salt: string): Promise<BuiltPaths> {
  const tools = join(client.home, 'tools');
  mkdirSync(join(tools, 'bin'), { recursive: true });
  copyFileSync('/bin/busybox', join(tools, 'bin', 'busybox'));
  const file = join(client.home, `paths-${salt}.nix`);
  writeFileSync(file, expression(tools, salt));
  const store = ['--store', client.store];
  const derivation = await ok(client.run('nix-instantiate', ...store, file));
  const top = await ok(client.run('nix-store', ...store, '--realise', derivation));
  const references = await ok(client.run('nix-store', ...store, '--query', '--references', top));
  return { top, dependency: references, derivation };
}

function expression(tools: string, salt: string): string {
  return `let
    busybox = "\${builtins.path { path = ${tools}; name = "tools"; }}/bin/busybox";
    make = name: script: derivation {
      inherit name; system = "x86_64-linux"; builder = busybox; args = [ "sh" "-euc" script ];
    };
    dependency = make "dependency-${salt}" ''
      \${busybox} mkdir -p $out/bin
      i=0; while [ $i -lt 60000 ]; do echo "line $i of ${salt}"; i=$((i+1)); done > $out/lines
      echo run > $out/bin/run; \${busybox} chmod +x $out/bin/run; \${busybox} ln -s bin/run $out/link
    '';
  in make "top-${salt}" ''
    echo "building ${salt}"
    \${busybox} mkdir $out; echo \${dependency} > $out/dependency
  ''`;
}

/** The trimmed stdout of a run that must succeed. */
export async function ok(run: Promise<ExecResult>): Promise<string> {
  const { code, stdout, stderr } = await run;
  if (code !== 0) throw new Error(`exit code ${code}: ${stderr}`);
  return stdout.toString().trim();
}

export async function issueToken(server: CacheServer, ...scopes: string[]): Promise<string> {
  const { token } = await server.tokens.create({ name: scopes.join(' '), scopes: scopes.map(parseScope) });
  return token;
}

export function publicKeyOfCache(server: CacheServer, name: string): string {
  return publicKeyOf(parseSecretKey(readFileSync(join(server.data, 'keys', `cache-${name}.key`), 'utf8')));
}

/** A folder below the system's temporary one, removed at the end whatever happens. */
export function temporaryFolder(name: string): { readonly path: string; remove(): Promise<void> } {
  const path = mkdtempSync(join(tmpdir(), `slipway-${name}-`));
  return {
    path,
    remove: async () => {
      await exec(['chmod', '-R', 'u+w', path]); // store paths are read-only
      rmSync(path, { recursive: true, force: true });
    },
  };
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}
