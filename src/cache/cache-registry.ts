// The caches of this server: create, find, list. A cache is a name, a visibility, and the key that signs its paths.
import type { Database } from '../storage/database.ts';
import { LRUCache } from 'lru-cache';
import type { Selectable, Updateable } from 'kysely';
import type { CacheTable } from '../storage/cache-tables.ts';
import type { LocalStoreConfig, UpstreamConfig } from '../api/source-config.ts';
import { parsePublicKey } from '../nix/signature.ts';
import { SlipwayError } from '../util/errors.ts';
import type { SigningKeys } from './signing-keys.ts';
import {
  checkSources,
  parseLocalStore,
  parseUpstreams,
  sourceColumns,
  sourcesKey,
} from './sources/source-columns.ts';

/** What a cache may be called: it becomes the first segment of its URLs. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9_+-]{0,49}$/;

/** What an overlay may be called after its cache's name. */
const WRITER = /^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$/;

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

const MOST_KEYS = 100;

export interface CacheSettings {
  readonly name: string;
  readonly isPublic: boolean;
  /** `Priority` of nix-cache-info; cache.nixos.org has 40, lower is asked first. */
  readonly priority: number;
  readonly storeDir: string;
  /**
   * Whether a path is refused while something that it references is not in the cache. Never with upstreams or a local
   * store: what they have can be had here without being held.
   */
  readonly closed: boolean;
  /** Names of keys: clients do not push what is signed by one of them. */
  readonly upstreamKeys: readonly string[];
  /** `name:base64`: what these keys signed is published whoever sends it. */
  readonly acceptedKeys: readonly string[];
  /** A contributor's path is published once so many of them hold the same bytes; 0: never by that. */
  readonly agreement: number;
  /** How long an unused path is kept; 0: for ever; undefined: as the server does by default. */
  readonly retentionMs: number | undefined;
  /** Most bytes of NARs. */
  readonly quotaBytes: number | undefined;
  /** Most bytes of NARs fetched from upstreams; the least recently used go. undefined: no limit. */
  readonly borrowedBytes: number | undefined;
  /** Asked, all at once, for what the cache does not hold. */
  readonly upstreams: readonly UpstreamConfig[];
  /** This machine's store, served beside what was pushed. */
  readonly localStore: LocalStoreConfig | undefined;
}

type NewCache = Pick<CacheSettings, 'name' | 'isPublic' | 'priority' | 'storeDir' | 'closed'> &
  Partial<CacheSettings> & {
    /** Text of the signing key; without it, one is made. */
    readonly key?: string;
  };

export type CacheChanges = Partial<Omit<CacheSettings, 'name'>>;

export interface Cache extends CacheSettings {
  readonly id: number;
  readonly createdAt: number;
  /** Of an overlay: the cache that it lies over. */
  readonly baseId: number | undefined;
  /** Counts what took published paths back. */
  readonly epoch: number;
  /** Tells one state of `upstreams` and `localStore` from another; empty when there are none. */
  readonly sourcesKey: string;
}

/** `<cache>` or, for the overlay of a contributor, `<cache>~<writer>`. */
export function isCacheName(name: string): boolean {
  const [base = '', writer, ...more] = name.split('~');
  if (!NAME.test(base) || RESERVED_NAMES.has(base) || more.length > 0) return false;
  return writer === undefined || WRITER.test(writer);
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
  async create({ key, ...settings }: NewCache): Promise<Cache> {
    checkName(settings.name);
    if (settings.name.includes('~')) throw badName(settings.name);
    checkSettings(settings);
    if ((await this.#read(settings.name)) !== undefined) throw existsAlready(settings.name);
    await (key === undefined ? this.#keys.generate(settings.name) : this.#keys.import(settings.name, key));
    if (!(await this.#insert(settings, null))) throw existsAlready(settings.name);
    return await this.get(settings.name);
  }

  /** The overlay that `writer` fills over `base`, made when it is not there yet. It is private and has its own key. */
  async ensureOverlay(base: Cache, writer: string): Promise<Cache> {
    const name = `${base.name}~${writer}`;
    const found = await this.find(name);
    if (found) return found;
    checkName(name);
    await this.#keys.generate(name);
    const { priority, storeDir, closed } = base;
    await this.#insert({ name, isPublic: false, priority, storeDir, closed }, base.id);
    return await this.get(name);
  }

  /** Changes the given settings. */
  async configure(name: string, changes: CacheChanges): Promise<Cache> {
    checkSettings(changes);
    const { id } = await this.get(name);
    const columns = columnsOf(changes);
    if (Object.keys(columns).length > 0)
      await this.#database.write(
        async (transaction) =>
          await transaction.updateTable('cache').set(columns).where('id', '=', id).execute(),
      );
    this.#known.delete(name);
    return await this.get(name);
  }

  /** Removes a cache with its overlays; its key files are set aside, because a key can never be made again. */
  async destroy(name: string): Promise<void> {
    const { id } = await this.get(name);
    const removed = await this.#database.write(
      async (transaction) =>
        await transaction
          .deleteFrom('cache')
          .where((where) => where.or([where('id', '=', id), where('base_id', '=', id)]))
          .returning('name')
          .execute(),
    );
    for (const row of removed) {
      this.#known.delete(row.name);
      await this.#keys.setAside(row.name);
    }
  }

  /** Forgets what is remembered of a cache: its row was changed elsewhere in this process. */
  forget(name: string): void {
    this.#known.delete(name);
  }

  /** False when another process was faster. */
  async #insert(settings: Omit<NewCache, 'key'>, baseId: number | null): Promise<boolean> {
    const { numInsertedOrUpdatedRows } = await this.#database.write(
      async (transaction) =>
        await transaction
          .insertInto('cache')
          .values({
            ...columnsOf(settings),
            name: settings.name,
            is_public: settings.isPublic ? 1 : 0,
            priority: settings.priority,
            store_dir: settings.storeDir,
            closed: settings.closed ? 1 : 0,
            base_id: baseId,
            created_at: Date.now(),
          })
          .onConflict((conflict) => conflict.column('name').doNothing())
          .executeTakeFirst(),
    );
    this.#known.delete(settings.name);
    return numInsertedOrUpdatedRows === 1n;
  }

  async find(name: string): Promise<Cache | undefined> {
    const known = this.#known.get(name);
    if (known) return known.cache;
    const cache = isCacheName(name) ? await this.#read(name) : undefined;
    this.#known.set(name, { cache });
    return cache;
  }

  /** What memory says; `undefined` also when the database would have to be asked. */
  findKnown(name: string): Cache | undefined {
    return this.#known.get(name)?.cache;
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

type CacheRow = Selectable<CacheTable>;

function cacheOf(row: CacheRow): Cache {
  return {
    id: row.id,
    name: row.name,
    isPublic: row.is_public === 1,
    priority: row.priority,
    storeDir: row.store_dir,
    closed: row.closed === 1 && row.upstreams === '[]' && row.local_store === null,
    upstreamKeys: wordsOf(row.upstream_keys),
    acceptedKeys: wordsOf(row.accepted_keys),
    agreement: row.agreement,
    retentionMs: row.retention_ms ?? undefined,
    quotaBytes: row.quota_bytes ?? undefined,
    borrowedBytes: row.borrowed_bytes ?? undefined,
    upstreams: parseUpstreams(row.upstreams),
    localStore: parseLocalStore(row.local_store),
    createdAt: row.created_at,
    baseId: row.base_id ?? undefined,
    epoch: row.epoch,
    sourcesKey: sourcesKey(row),
  };
}

/** A setting that is there but `undefined` is taken back to the default. */
function columnsOf(changes: CacheChanges): Updateable<CacheTable> {
  const { priority, storeDir, agreement } = changes;
  return {
    ...flagColumns(changes),
    ...(priority !== undefined && { priority }),
    ...(storeDir !== undefined && { store_dir: storeDir }),
    ...(agreement !== undefined && { agreement }),
    ...keyColumns(changes),
    ...('retentionMs' in changes && { retention_ms: changes.retentionMs ?? null }),
    ...('quotaBytes' in changes && { quota_bytes: changes.quotaBytes ?? null }),
    ...sourceColumns(changes),
  };
}

function flagColumns({ isPublic, closed }: CacheChanges): Updateable<CacheTable> {
  return {
    ...(isPublic !== undefined && { is_public: isPublic ? 1 : 0 }),
    ...(closed !== undefined && { closed: closed ? 1 : 0 }),
  };
}

function keyColumns({ upstreamKeys, acceptedKeys }: CacheChanges): Updateable<CacheTable> {
  return {
    ...(upstreamKeys !== undefined && { upstream_keys: upstreamKeys.join(' ') }),
    ...(acceptedKeys !== undefined && { accepted_keys: acceptedKeys.join(' ') }),
  };
}

function wordsOf(text: string): string[] {
  return text.split(' ').filter((word) => word !== '');
}

function checkName(name: string): void {
  if (!isCacheName(name)) throw badName(name);
}

function checkSettings(changes: CacheChanges): void {
  const { storeDir, upstreamKeys = [], acceptedKeys = [] } = changes;
  checkSources(changes);
  if (storeDir !== undefined && !/^\/[\w./+-]*[\w+-]$/.test(storeDir))
    throw new SlipwayError('invalid', `"${storeDir.slice(0, 200)}" is not a store directory.`);
  const wrong = upstreamKeys.find((name) => !/^[\x21-\x7e]{1,128}$/.test(name));
  if (wrong !== undefined || upstreamKeys.length > MOST_KEYS)
    throw new SlipwayError('invalid', 'The names of upstream keys are up to 100 words without spaces.');
  if (acceptedKeys.length > MOST_KEYS)
    throw new SlipwayError('invalid', `A cache accepts the signatures of at most ${MOST_KEYS} keys.`);
  for (const key of acceptedKeys) parsePublicKey(key);
}

function badName(name: string): SlipwayError {
  return new SlipwayError('invalid', `"${name.slice(0, 200)}" cannot be the name of a cache.`, {
    next: 'Use up to 50 letters, digits, "-", "_" and "+"; names of server routes such as "api" are taken.',
  });
}

function existsAlready(name: string): SlipwayError {
  return new SlipwayError('conflict', `There is a cache named ${name} already.`);
}
