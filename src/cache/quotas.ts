// Keeps caches within their quotas. The sum over a cache is counted once in a while and carried on in between, so a
// push of thousands of paths does not count thousands of times; several servers may pass a quota by what half a minute brings.
import { LRUCache } from 'lru-cache';
import type { Database } from '../storage/database.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Cache } from './cache-registry.ts';

const COUNT_TTL_MS = 30_000;

export class Quotas {
  readonly #database: Database;
  readonly #used = new LRUCache<number, { bytes: number }>({ max: 1000, ttl: COUNT_TTL_MS });

  constructor(database: Database) {
    this.#database = database;
  }

  /** `too_large` when a NAR of `size` bytes has no room. An overlay may hold as much as its base. */
  async check(cache: Cache, base: Cache | undefined, size: number): Promise<void> {
    const { quotaBytes } = base ?? cache;
    if (quotaBytes === undefined) return;
    const used = this.#used.get(cache.id) ?? { bytes: await this.#count(cache) };
    this.#used.set(cache.id, used, { noUpdateTTL: true });
    if (used.bytes + size <= quotaBytes) return;
    throw new SlipwayError(
      'too_large',
      `The cache ${cache.name} may hold ${quotaBytes} bytes and holds ${used.bytes}; ${size} more do not fit.`,
      { next: 'Raise it with "slipway cache configure --quota", or remove paths.' },
    );
  }

  /** To be called for what was published. */
  note(cache: Cache, size: number): void {
    const used = this.#used.get(cache.id);
    if (used) used.bytes += size;
  }

  async #count(cache: Cache): Promise<number> {
    const { bytes } = await this.#database.read
      .selectFrom('store_path')
      .innerJoin('content', 'content.id', 'store_path.content_id')
      .select((builder) => builder.fn.sum<number | null>('content.size').as('bytes'))
      .where('store_path.cache_id', '=', cache.id)
      .executeTakeFirstOrThrow();
    return bytes ?? 0;
  }
}
