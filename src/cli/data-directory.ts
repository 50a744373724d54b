// The data directory as `cache` and `token` use it, beside a running server or without one: its database and its keys.
import { access, mkdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { openTokenRegistry, type TokenRegistry } from '../auth/token-registry.ts';
import { CacheRegistry } from '../cache/cache-registry.ts';
import { SigningKeys } from '../cache/signing-keys.ts';
import type { Database } from '../storage/database.ts';
import { messageOf, SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { openServerDatabase, recallStorage } from './server-storage.ts';

export interface DataPaths {
  readonly root: string;
  readonly database: string;
  readonly packs: string;
  /** Where the database and the packs are, when they are elsewhere. */
  readonly storage: string;
  readonly keys: string;
  /** NARs on their way from upstreams; always empty but for files without a name. */
  readonly spool: string;
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
    storage: join(root, 'storage.json'),
    keys: join(root, 'keys'),
    spool: join(root, 'spool'),
  };
}

/** Opens what a server keeps in its data directory. `make`: also where there is none yet; else that is `not_found`. */
export async function openData(
  directory: string,
  { make = false }: { readonly make?: boolean } = {},
): Promise<OpenData> {
  const paths = dataPaths(directory);
  if (make) await makeDataDirectory(paths.root);
  else if (!(await holdsData(paths))) throw noData(paths.root);
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

/** Makes the directory, for its owner alone. Not by `recursive`: below /proc Node's mkdir then never ends. */
export async function makeDataDirectory(root: string): Promise<void> {
  try {
    await makeWithParents(root);
  } catch (error) {
    throw new SlipwayError('unavailable', `The data directory cannot be made: ${messageOf(error)}`, {
      next: 'Name a directory that this user may write: --data DIRECTORY',
      cause: error,
    });
  }
}

async function makeWithParents(folder: string): Promise<void> {
  const make = async (): Promise<void> => await mkdir(folder, { mode: 0o700 });
  try {
    await make();
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return;
    if (!hasCode(error, 'ENOENT')) throw error;
    await makeWithParents(dirname(folder));
    await make();
  }
}

async function holdsData(paths: DataPaths): Promise<boolean> {
  return await Promise.any([access(paths.database), access(paths.storage)]).then(
    () => true,
    () => false,
  );
}

function noData(root: string): SlipwayError {
  return new SlipwayError('not_found', `There is no server's data in ${root}.`, {
    next: 'Name its directory with --data or SLIPWAY_DATA; "slipway up", "cache create" and "token create" make one.',
  });
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
