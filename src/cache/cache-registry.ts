// The caches of this server: create, find, list. A cache is a name, a visibility, and the key that signs its paths.
import type { Database } from '../storage/database.ts';
import { LRUCache } from 'lru-cache';
import { SlipwayError } from '../util/errors.ts';
import type { SigningKeys } from './signing-keys.ts';

/** What a cache may be called: it becomes the first segment of its URLs. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9_+-]{0,49}$/;

/** First segments that belong to the rest of the server. */
export const RESERVED_NAMES: ReadonlySet<string> = new Set([
  'api',
  'hooks',
  'events',
  'assets',
  'healthz',
  'metrics',
  '_api',
]);

/** How long a change made by another process, for instance `slipway cache create`, may stay unseen. */
const CONFIG_TTL_MS = 2_000;

export interface CacheSettings {
  readonly name: string;
  readonly isPublic: boolean;
  /** `Priority` of nix-cache-info; cache.nixos.org has 40, lower is asked first. */
  readonly priority: number;
  readonly storeDir: string;
  /** Whether a path is refused while something that it references is not in the cache. */
  readonly closed: boolean;
}

export interface Cache extends CacheSettings {
  readonly id: number;
  readonly createdAt: number;
}

export function isCacheName(name: string): boolean {
  return NAME.test(name) && !RESERVED_NAMES.has(name);
}

export class CacheRegistry {
  readonly #database: Database;
  readonly #keys: SigningKeys;
  readonly #known = new LRUCache<string, { readonly cache: Cache | undefined }>({
    max: 1000,
    ttl: CONFIG_TTL_MS,
  });

  constructor(database: Database, keys: SigningKeys) {
    this.#database = database;
    this.#keys = keys;
  }

  /** Makes a cache and its signing key. An existing name is `conflict`. */
  async create(settings: CacheSettings): Promise<Cache> {
    checkSettings(settings);
    if ((await this.#read(settings.name)) !== undefined)
      throw new SlipwayError('conflict', `There is a cache named ${settings.name} already.`);
    await this.#keys.generate(settings.name);
    await this.#database.write(
      async (transaction) =>
        await transaction
          .insertInto('cache')
          .values({
            name: settings.name,
            is_public: settings.isPublic ? 1 : 0,
            priority: settings.priority,
            store_dir: settings.storeDir,
            closed: settings.closed ? 1 : 0,
            created_at: Date.now(),
          })
          .execute(),
    );
    this.#known.delete(settings.name);
    return await this.get(settings.name);
  }

  async find(name: string): Promise<Cache | undefined> {
    const known = this.#known.get(name);
    if (known) return known.cache;
    const cache = isCacheName(name) ? await this.#read(name) : undefined;
    this.#known.set(name, { cache });
    return cache;
  }

  async get(name: string): Promise<Cache> {
    const cache = await this.find(name);
    if (cache) return cache;
    throw new SlipwayError('not_found', `There is no cache named ${name}.`, {
      next: 'See "slipway cache list", or make it with "slipway cache create".',
    });
  }

  async list(): Promise<Cache[]> {
    const rows = await this.#database.read.selectFrom('cache').selectAll().orderBy('name').execute();
    return rows.map(cacheOf);
  }

  async #read(name: string): Promise<Cache | undefined> {
    const row = await this.#database.read
      .selectFrom('cache')
      .selectAll()
      .where('name', '=', name)
      .executeTakeFirst();
    return row === undefined ? undefined : cacheOf(row);
  }
}

interface CacheRow {
  readonly id: number;
  readonly name: string;
  readonly is_public: number;
  readonly priority: number;
  readonly store_dir: string;
  readonly closed: number;
  readonly created_at: number;
}

function cacheOf(row: CacheRow): Cache {
  return {
    id: row.id,
    name: row.name,
    isPublic: row.is_public === 1,
    priority: row.priority,
    storeDir: row.store_dir,
    closed: row.closed === 1,
    createdAt: row.created_at,
  };
}

function checkSettings(settings: CacheSettings): void {
  if (!isCacheName(settings.name))
    throw new SlipwayError('invalid', `"${settings.name}" cannot be the name of a cache.`, {
      next: 'Use up to 50 letters, digits, "-", "_" and "+"; names of server routes such as "api" are taken.',
    });
  if (!/^\/[\w./+-]*[\w+-]$/.test(settings.storeDir))
    throw new SlipwayError('invalid', `"${settings.storeDir}" is not a store directory.`);
}
