// Attic's cache-config: read, create, configure and destroy a cache (server/src/api/v1/cache_config.rs).
import type { IncomingMessage } from 'node:http';
import {
  atticConfigureCache,
  atticCreateCache,
  type AtticCacheConfig,
  type AtticConfigureCache,
} from '../api/attic-v1.ts';
import { mayDiscover, mayManage, mayRead, type Caller } from '../auth/caller.ts';
import type { CacheChanges } from '../cache/cache-registry.ts';
import { generateSecretKey, publicKeyOf } from '../nix/signature.ts';
import { SlipwayError, isCode } from '../util/errors.ts';
import { atticError } from './attic-failure.ts';
import { admitToCache, readAtticJson, sendJson, sendNothing, type AtticParts } from './attic-request.ts';
import type { Exchange } from './cache-request.ts';

const MAX_CONFIG_BYTES = 64 * 1024;

export async function sendCacheConfig(parts: AtticParts, exchange: Exchange, name: string): Promise<void> {
  const { cache } = await admitToCache(
    parts,
    exchange.request,
    name,
    (caller, { isPublic }) => isPublic || mayRead(caller, name),
  );
  const [key] = await parts.cache.keys.get(name);
  const endpoint = endpointOf(parts, exchange.request);
  const config: AtticCacheConfig = {
    substituter_endpoint: `${endpoint}/${name}`,
    api_endpoint: `${endpoint}/`,
    public_key: key === undefined ? '' : publicKeyOf(key),
    is_public: cache.isPublic,
    store_dir: cache.storeDir,
    priority: cache.priority,
    upstream_cache_key_names: cache.upstreamKeys,
    retention_period:
      cache.retentionMs === undefined ? 'Global' : { Period: Math.round(cache.retentionMs / 1000) },
  };
  sendJson(exchange, config);
}

export async function createCache(parts: AtticParts, exchange: Exchange, name: string): Promise<void> {
  const caller = await parts.tokens.findCaller(exchange.request.headers.authorization);
  if (!mayManage(caller, 'cc', name))
    throw atticError(mayDiscover(caller, name) ? 'AccessError' : 'Unauthorized');
  const wanted = await readAtticJson(exchange, atticCreateCache, MAX_CONFIG_BYTES);
  try {
    await parts.cache.caches.create({
      name,
      key: wanted.keypair === 'Generate' ? generateSecretKey(name) : wanted.keypair.Keypair,
      isPublic: wanted.is_public,
      storeDir: wanted.store_dir,
      priority: wanted.priority,
      upstreamKeys: wanted.upstream_cache_key_names,
      // Its client leaves out what upstreams sign and sends the rest in no order.
      closed: false,
    });
  } catch (error) {
    throw isCode(error, 'conflict') ? atticError('CacheAlreadyExists') : error;
  }
  sendNothing(exchange);
}

export async function configureCache(parts: AtticParts, exchange: Exchange, name: string): Promise<void> {
  const { caller } = await admitToCache(parts, exchange.request, name, (who) => mayManage(who, 'cr', name));
  const wanted = await readAtticJson(exchange, atticConfigureCache, MAX_CONFIG_BYTES);
  const changes = { ...settingsOf(wanted), ...retentionOf(wanted, caller, name) };
  const { keypair } = wanted;
  if (Object.keys(changes).length === 0 && !keypair)
    throw new SlipwayError('invalid', 'No modifiable fields were set.');
  await parts.cache.caches.configure(name, changes);
  if (keypair)
    await parts.cache.replaceKeys(name, [keypair === 'Generate' ? generateSecretKey(name) : keypair.Keypair]);
  sendNothing(exchange);
}

export async function destroyCache(parts: AtticParts, exchange: Exchange, name: string): Promise<void> {
  await admitToCache(parts, exchange.request, name, (caller) => mayManage(caller, 'cd', name));
  await parts.cache.caches.destroy(name);
  sendNothing(exchange);
}

function settingsOf(wanted: AtticConfigureCache): CacheChanges {
  const { is_public, store_dir, priority, upstream_cache_key_names } = wanted;
  return {
    ...(typeof is_public === 'boolean' && { isPublic: is_public }),
    ...(typeof store_dir === 'string' && { storeDir: store_dir }),
    ...(typeof priority === 'number' && { priority }),
    ...(upstream_cache_key_names && { upstreamKeys: upstream_cache_key_names }),
  };
}

/**
 * Attic's client sends `"Global"` with every change, whether it was asked to or not, which would take a retention period
 * back unasked and refuse all changes to whoever may not set one. Beside other settings it therefore means nothing.
 */
function retentionOf(wanted: AtticConfigureCache, caller: Caller | undefined, name: string): CacheChanges {
  const { retention_period: retention, ...others } = wanted;
  if (!retention) return {};
  const alone = Object.values(others).every((value) => value === undefined || value === null);
  if (retention === 'Global' && !alone) return {};
  if (!mayManage(caller, 'cq', name)) throw atticError('AccessError');
  return { retentionMs: retention === 'Global' ? undefined : retention.Period * 1000 };
}

/** How the client reaches this server: as it is configured, else as the request says, like Attic. */
function endpointOf({ publicUrl }: AtticParts, request: IncomingMessage): string {
  if (publicUrl !== undefined) return publicUrl.replace(/\/+$/, '');
  const host = request.headers.host ?? '';
  if (!/^[A-Za-z0-9._:[\]-]{1,255}$/.test(host))
    throw new SlipwayError('invalid', 'The Host header does not name a host.');
  return `${request.headers['x-forwarded-proto'] === 'https' ? 'https' : 'http'}://${host}`;
}
