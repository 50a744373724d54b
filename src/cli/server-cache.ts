// The caches of a server: opened with what they need for paths that they do not hold, and made or set as the
// configuration says.
import { LRUCache } from 'lru-cache';
import type { ServerConfig } from '../api/server-config.ts';
import type { LocalStoreConfig } from '../api/source-config.ts';
import { openBinaryCache, type BinaryCache, type BinaryCacheOptions } from '../cache/binary-cache.ts';
import { isCacheName, type Cache, type CacheChanges } from '../cache/cache-registry.ts';
import { readNarNode } from '../effects/nar-files.ts';
import { readSecretReference } from '../effects/secret-reference.ts';
import { publicKeyOf } from '../nix/signature.ts';
import type { DataPaths } from './data-directory.ts';

/** How often a secret is read again: it may be rotated, and some are behind a program. */
const SECRET_TTL_MS = 60_000;

export interface CacheView {
  readonly name: string;
  readonly publicKeys: readonly string[];
}

export function openServerCache(
  paths: DataPaths,
  {
    database,
    blobs,
    onError,
  }: Pick<BinaryCacheOptions, 'database' | 'blobs'> & { onError: (error: unknown) => void },
): BinaryCache {
  return openBinaryCache({
    database,
    blobs,
    keysDirectory: paths.keys,
    sources: {
      spoolDirectory: paths.spool,
      readTree: readNarNode,
      readSecret: rememberedSecrets(),
      onProblem: onError,
    },
  });
}

function rememberedSecrets(): (reference: string) => Promise<string> {
  const known = new LRUCache<string, Promise<string>>({ max: 100, ttl: SECRET_TTL_MS });
  return async (reference) => {
    const found = known.get(reference);
    if (found) return await found;
    const reading = readSecretReference(reference);
    known.set(reference, reading);
    reading.catch(() => known.delete(reference));
    return await reading;
  };
}

/** Makes the caches of the configuration that are missing, and gives those that are there the sources that it names. */
export async function ensureCaches(
  { caches, keys }: BinaryCache,
  config: ServerConfig,
): Promise<CacheView[]> {
  for (const wanted of config.caches) {
    const { name, public: isPublic } = wanted;
    const found = isCacheName(name) ? await caches.find(name) : undefined;
    if (found === undefined)
      await caches.create({ name, isPublic, priority: 30, storeDir: '/nix/store', closed: true });
    const changes = sourceChanges(wanted, found);
    if (Object.keys(changes).length > 0) await caches.configure(name, changes);
  }
  const views = (await caches.list()).map(async ({ name }) => ({
    name,
    publicKeys: (await keys.get(name)).map(publicKeyOf),
  }));
  return await Promise.all(views);
}

/** What the file says stands over what was configured by hand; what it does not name stays as it is. */
function sourceChanges(wanted: ServerConfig['caches'][number], found: Cache | undefined): CacheChanges {
  const { upstreams, localStore, pulledLimit } = wanted;
  const changes: CacheChanges = {
    ...(upstreams !== undefined && { upstreams }),
    ...(localStore !== undefined && { localStore: localStoreOf(localStore) }),
    ...(pulledLimit !== undefined && { borrowedBytes: pulledLimit }),
  };
  const unlimited = found?.borrowedBytes === undefined && pulledLimit === undefined;
  return upstreams === undefined || !unlimited
    ? changes
    : { ...changes, borrowedBytes: DEFAULT_PULLED_BYTES };
}

function localStoreOf(wanted: LocalStoreConfig | boolean): LocalStoreConfig | undefined {
  if (typeof wanted !== 'boolean') return wanted;
  return wanted ? { root: '/', sign: true } : undefined;
}

/** What a cache keeps of its upstreams when nobody says: enough for the closures of a fleet, and not all of a disk. */
export const DEFAULT_PULLED_BYTES = 100e9;
