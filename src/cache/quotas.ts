// Keeps caches within their quotas: NARs of paths and the files beside them; and what is no path yet (NARs that wait for their
// narinfo, chunks that wait for the rest of theirs, what failed uploads have left on the disk) may not fill more than the same
// once again. The sums are counted once in a while and carried on in between, so a push of thousands of paths does not count
// thousands of times; several servers may pass a quota by what half a minute brings.
import { LRUCache } from 'lru-cache';
import type { Database } from '../storage/database.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Cache } from './cache-registry.ts';
import { LONGEST_UPLOAD_MS } from './garbage/retired-packs.ts';
import { stagedBytes } from './ingest/held-chunks.ts';

const COUNT_TTL_MS = 30_000;
const MOST_CACHES = 1000;

type Sum = (database: Database, cacheId: number) => Promise<number>;

export class Quotas {
  readonly #held: CountedBytes;
  readonly #waiting: CountedBytes;
  /** What no row tells: bytes on the disk that nothing names. A collection takes them in this time. */
  readonly #waste = new LRUCache<number, { bytes: number }>({ max: MOST_CACHES, ttl: LONGEST_UPLOAD_MS });

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

  /** `too_large` when so much waits to become paths already that no more may come. To be called before an upload is taken. */
  async checkWaiting(cache: Cache, base: Cache | undefined): Promise<void> {
    const { quotaBytes } = base ?? cache;
    if (quotaBytes === undefined) return;
    const waiting = (await this.#waiting.of(cache)) + (this.#waste.get(cache.id)?.bytes ?? 0);
    if (waiting < quotaBytes) return;
    throw new SlipwayError(
      'too_large',
      `${waiting} bytes of uploads that are no paths wait in the cache ${cache.name}, which may hold ${quotaBytes} bytes.`,
      { next: 'Publish them, or wait: in a day or two they are let go.' },
    );
  }

  /** To be called for what an upload has left on the disk that nothing names. */
  noteWaste({ id }: Cache, bytes: number): void {
    const waste = this.#waste.get(id) ?? { bytes: 0 };
    if (waste.bytes === 0) this.#waste.set(id, waste);
    waste.bytes += bytes;
  }

  /** To be called for what was published. */
  note(cache: Cache, size: number): void {
    this.#held.note(cache, size);
  }

  /** Counts bytes as waiting, until the next count tells what of them still does. */
  noteWaiting(cache: Cache, bytes: number): void {
    this.#waiting.note(cache, bytes);
  }

  /** Counts what arrives as waiting; when `take` fails, as waste: what came of it may be on the disk. */
  async whileArriving<T>(
    cache: Cache,
    body: AsyncIterable<Buffer>,
    take: (body: AsyncIterable<Buffer>) => Promise<T>,
  ): Promise<T> {
    const arriving = new CountedBody(body, (bytes) => this.#waiting.note(cache, bytes));
    try {
      return await take(arriving.read());
    } catch (error) {
      this.#waiting.note(cache, -arriving.bytes);
      this.noteWaste(cache, arriving.bytes);
      throw error;
    }
  }
}

class CountedBody {
  readonly #body: AsyncIterable<Buffer>;
  readonly #note: (bytes: number) => void;
  bytes = 0;

  constructor(body: AsyncIterable<Buffer>, note: (bytes: number) => void) {
    this.#body = body;
    this.#note = note;
  }

  async *read(): AsyncIterable<Buffer> {
    for await (const piece of this.#body) {
      this.bytes += piece.length;
      this.#note(piece.length);
      yield piece;
    }
  }
}

class CountedBytes {
  readonly #database: Database;
  readonly #sum: Sum;
  readonly #counted = new LRUCache<number, { bytes: number }>({ max: MOST_CACHES, ttl: COUNT_TTL_MS });

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
  return (bytes ?? 0) + (await stagedBytes(database, cacheId));
};

function full(cache: Cache, quotaBytes: number, held: number, size: number): SlipwayError {
  return new SlipwayError(
    'too_large',
    `The cache ${cache.name} may hold ${quotaBytes} bytes and holds ${held}; ${size} more do not fit.`,
    { next: 'Raise it with "slipway cache configure --quota", or remove paths.' },
  );
}
