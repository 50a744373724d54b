// Keeps caches within their quotas: NARs of paths and the files beside them; and what waits for its narinfo may not fill more
// than the same once again, or uploads that never become paths would fill the disk. The sums are counted once in a while and
// carried on in between, so a push of thousands of paths does not count thousands of times; several servers may pass a quota
// by what half a minute brings.
import { LRUCache } from 'lru-cache';
import type { Database } from '../storage/database.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Cache } from './cache-registry.ts';

const COUNT_TTL_MS = 30_000;

type Sum = (database: Database, cacheId: number) => Promise<number>;

export class Quotas {
  readonly #held: CountedBytes;
  readonly #waiting: CountedBytes;

  constructor(database: Database) {
    this.#held = new CountedBytes(database, sumHeld);
    this.#waiting = new CountedBytes(database, sumWaiting);
  }

  /** `too_large` when a NAR, or a file beside one, of `size` bytes has no room. An overlay may hold as much as its base. */
  async check(cache: Cache, base: Cache | undefined, size: number): Promise<void> {
    const { quotaBytes } = base ?? cache;
    if (quotaBytes === undefined) return;
    const held = await this.#held.of(cache);
    if (held + size > quotaBytes) throw full(cache, quotaBytes, held, size);
  }

  /** `too_large` when so much waits for its narinfo already that no more may come. To be called before a NAR is taken. */
  async checkWaiting(cache: Cache, base: Cache | undefined): Promise<void> {
    const { quotaBytes } = base ?? cache;
    if (quotaBytes === undefined) return;
    const waiting = await this.#waiting.of(cache);
    if (waiting < quotaBytes) return;
    throw new SlipwayError(
      'too_large',
      `${waiting} bytes of NARs wait for their narinfos in the cache ${cache.name}, which may hold ${quotaBytes} bytes.`,
      { next: 'Publish them, or wait: a day after they came they are let go.' },
    );
  }

  /** To be called for what was published. */
  note(cache: Cache, size: number): void {
    this.#held.note(cache, size);
  }

  /** Counts what arrives as waiting, until the next count tells what of it still does. */
  async *waiting(cache: Cache, body: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
    for await (const bytes of body) {
      this.#waiting.note(cache, bytes.length);
      yield bytes;
    }
  }
}

class CountedBytes {
  readonly #database: Database;
  readonly #sum: Sum;
  readonly #counted = new LRUCache<number, { bytes: number }>({ max: 1000, ttl: COUNT_TTL_MS });

  constructor(database: Database, sum: Sum) {
    this.#database = database;
    this.#sum = sum;
  }

  async of({ id }: Cache): Promise<number> {
    const known = this.#counted.get(id);
    if (known !== undefined) return known.bytes;
    const bytes = await this.#sum(this.#database, id);
    this.#counted.set(id, { bytes });
    return bytes;
  }

  note({ id }: Cache, size: number): void {
    const known = this.#counted.get(id);
    if (known) known.bytes += size;
  }
}

const sumHeld: Sum = async (database, cacheId) => {
  const sums = (['store_path', 'side_file'] as const).map(
    async (table) =>
      await database.read
        .selectFrom(table)
        .innerJoin('content', 'content.id', `${table}.content_id`)
        .select((builder) => builder.fn.sum<number | null>('content.size').as('bytes'))
        .where(`${table}.cache_id`, '=', cacheId)
        .executeTakeFirstOrThrow(),
  );
  return (await Promise.all(sums)).reduce((sum, { bytes }) => sum + (bytes ?? 0), 0);
};

const sumWaiting: Sum = async (database, cacheId) => {
  const { bytes } = await database.read
    .selectFrom('nar_upload')
    .innerJoin('content', 'content.id', 'nar_upload.content_id')
    .select((builder) => builder.fn.sum<number | null>('content.size').as('bytes'))
    .where('nar_upload.cache_id', '=', cacheId)
    .where('nar_upload.expires_at', 'is not', null)
    .executeTakeFirstOrThrow();
  return bytes ?? 0;
};

function full(cache: Cache, quotaBytes: number, held: number, size: number): SlipwayError {
  return new SlipwayError(
    'too_large',
    `The cache ${cache.name} may hold ${quotaBytes} bytes and holds ${held}; ${size} more do not fit.`,
    { next: 'Raise it with "slipway cache configure --quota", or remove paths.' },
  );
}
