// Composition root of the server part, used by `serve` and `up`: data directory, caches, fleet, HTTP. It starts no
// process; what does (poller, pipeline) is put beside it by `up`.
import { chmod } from 'node:fs/promises';
import { openTokenRegistry } from '../auth/token-registry.ts';
import { startStorageCare } from '../cache/storage-care.ts';
import { readStorageFigures } from '../cache/storage-figures.ts';
import { webhookSecrets, type ServerConfig } from '../api/server-config.ts';
import { readSecretReference } from '../effects/secret-reference.ts';
import { openFleet, type Fleet } from '../fleet/fleet.ts';
import { createApp } from '../http/app.ts';
import { createCacheHandler } from '../http/cache-handler.ts';
import { parseListenAddress } from '../http/listen-address.ts';
import { openPageAssets } from '../http/page-assets.ts';
import { RequestMetrics } from '../http/request-metrics.ts';
import { openServer } from '../http/server.ts';
import { ViewAccess } from '../http/view-access.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import type { Database } from '../storage/database.ts';
import { lockDirectory } from '../storage/directory-lock.ts';
import { SlipwayError } from '../util/errors.ts';
import { collectBeside } from './collect-beside.ts';
import { dataPaths, type DataPaths, makeDataDirectory } from './data-directory.ts';
import { ensureCaches, openServerCache, type CacheView } from './server-cache.ts';
import { mirrorRegularly } from './mirror-schedule.ts';
import { openServerIdentities } from './server-identities.ts';
import { ensureServerKeys, type ServerKeys } from './server-keys.ts';
import {
  openServerBlobs,
  openServerDatabase,
  rememberStorage,
  sweepServerStorage,
} from './server-storage.ts';
import { startThreadsSmall } from './small-threads.ts';

export interface ControlPlane extends AsyncDisposable {
  readonly paths: DataPaths;
  readonly keys: ServerKeys;
  readonly fleet: Fleet;
  /** Where it really listens. */
  readonly urls: readonly string[];
  /** How hosts and the pipeline reach it. */
  readonly publicUrl: string;
  readonly caches: readonly CacheView[];
}

/** Opens everything or nothing. `onError` hears what no client may hear. */
export async function openControlPlane(
  config: ServerConfig,
  onError: (error: unknown) => void,
): Promise<ControlPlane> {
  const listen = config.listen.map(parseListenAddress);
  await using opening = new AsyncDisposableStack();
  const paths = await openDataDirectory(config.data);
  opening.use(lockDirectory(paths.root));
  await rememberStorage(paths, config);
  const { database, blobs } = await openStorage(opening, paths, config, onError);
  const tokens = opening.use(openTokenRegistry(database));
  const cache = opening.use(openServerCache(paths, { database, blobs, onError }));
  const keys = await ensureServerKeys(paths.keys, tokens);
  const caches = await ensureCaches(cache, config);
  const { repositories, keepRuns } = config;
  const fleet = await openFleet({ database, repositories, keepRuns });
  const closing = opening.adopt(new AbortController(), (controller) => controller.abort());
  const { callers, oidc } = await openServerIdentities(config, paths.keys, tokens);
  const requests = new RequestMetrics();
  const metrics = [...requests.metrics, ...cache.sources.metrics];
  const app = createApp({
    fleet,
    counted: { metrics, readFigures: async () => await readStorageFigures(database) },
    tokens: callers,
    registry: tokens,
    oidc,
    access: new ViewAccess(config.view, callers),
    closing: closing.signal,
    findAsset: openPageAssets(),
    readWebhookSecrets: async (name) => await readSecrets(config, keys, name),
    onError,
  });
  const { publicUrl, uploads } = config;
  const cacheHandler = createCacheHandler({
    cache,
    tokens: callers,
    onError,
    pace: { patienceMs: uploads.patience * 1000, slowest: uploads.slowest },
    ...(publicUrl !== undefined && { publicUrl }),
  });
  const server = await openServer({ listen, app, cache: requests.metered(cacheHandler), onError });
  const flushUses = async (): Promise<void> => await cache.flushUses();
  const collecting = collectBeside({ database, flushUses, onError }, config, closing.signal);
  const mirroring = mirrorRegularly({ ...config, ...server, ...keys, onError }, closing.signal);
  const open = opening.move();
  return {
    paths,
    keys,
    fleet,
    urls: server.urls,
    publicUrl: publicUrl ?? server.urls.find((url) => url.startsWith('http')) ?? server.urls[0] ?? '',
    caches,
    [Symbol.asyncDispose]: async () => {
      closing.abort(); // the live views end first: the server waits for requests that are under way
      await server[Symbol.asyncDispose]();
      await Promise.all([collecting, mirroring]);
      await open.disposeAsync();
    },
  };
}

/** Database and blobs, swept and looked after. */
async function openStorage(
  opening: AsyncDisposableStack,
  paths: DataPaths,
  config: ServerConfig,
  onError: (error: unknown) => void,
): Promise<{ readonly database: Database; readonly blobs: BlobStore }> {
  startThreadsSmall();
  const database = opening.use(await openServerDatabase(paths, config, { write: 'thread' }));
  const blobs = opening.use(await openServerBlobs(paths, config));
  await sweepServerStorage(paths, config, { database, blobs });
  const { scrubBytesPerSecond } = config;
  opening.use(startStorageCare({ database, blobs, scrubBytesPerSecond, onError }));
  return { database, blobs };
}

async function openDataDirectory(directory: string): Promise<DataPaths> {
  const paths = dataPaths(directory);
  await makeDataDirectory(paths.root);
  await chmod(paths.root, 0o700);
  return paths;
}

/** Without a secret of its own, a repository's webhook is signed with the one that the first start made. */
async function readSecrets(config: ServerConfig, keys: ServerKeys, name: string): Promise<string[]> {
  const repository = config.repositories.find((one) => one.name === name);
  if (!repository) throw new SlipwayError('not_found', `There is no repository called ${name}.`);
  const given = webhookSecrets(repository);
  const references = given.length > 0 ? given : [`file:${keys.webhookSecretFile}`];
  return await Promise.all(references.map(async (reference) => await readSecretReference(reference)));
}
