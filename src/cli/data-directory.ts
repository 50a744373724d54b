// The data directory as `cache` and `token` use it, beside a running server or without one: its database and its keys.
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { openTokenRegistry, type TokenRegistry } from '../auth/token-registry.ts';
import { CacheRegistry } from '../cache/cache-registry.ts';
import { SigningKeys } from '../cache/signing-keys.ts';
import type { Database } from '../storage/database.ts';
import type { CliIo } from './cli-io.ts';
import { openServerDatabase, recallStorage } from './server-storage.ts';

export interface DataPaths {
  readonly root: string;
  readonly database: string;
  readonly packs: string;
  readonly keys: string;
}

export interface OpenData extends AsyncDisposable {
  readonly database: Database;
  readonly keys: SigningKeys;
  readonly caches: CacheRegistry;
  readonly tokens: TokenRegistry;
}

const DEFAULT_DATA = '/var/lib/slipway';

/** What `--data` means when it is not given. */
export function defaultDataDirectory(io: CliIo): string {
  return io.env['SLIPWAY_DATA'] ?? DEFAULT_DATA;
}

export function dataPaths(directory: string): DataPaths {
  const root = resolve(directory);
  return {
    root,
    database: join(root, 'slipway.db'),
    packs: join(root, 'packs'),
    keys: join(root, 'keys'),
  };
}

/** Opens the data directory, making it (mode 0700) when it is not there. */
export async function openData(directory: string): Promise<OpenData> {
  const paths = dataPaths(directory);
  await mkdir(paths.root, { recursive: true, mode: 0o700 });
  const database = await openServerDatabase(paths, await recallStorage(paths));
  const keys = new SigningKeys(paths.keys);
  const tokens = openTokenRegistry(database);
  return {
    database,
    keys,
    caches: new CacheRegistry(database, keys),
    tokens,
    [Symbol.asyncDispose]: async () => {
      await tokens[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    },
  };
}
