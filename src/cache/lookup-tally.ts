// How often each cache was asked for a narinfo, and had it: counted in memory, written once a minute, by day. For people, who
// want to know what the cache spares them; a crash loses a minute.
import { sql } from 'kysely';
import type { Database } from '../storage/database.ts';

const FLUSH_MS = 60_000;
const DAY_MS = 24 * 3_600_000;
const KEPT_DAYS = 90;

interface Tally {
  hits: number;
  misses: number;
}

export class LookupTally implements AsyncDisposable {
  readonly #database: Database;
  #counted = new Map<number, Tally>();
  #timer: NodeJS.Timeout | undefined;

  constructor(database: Database) {
    this.#database = database;
  }

  note(cacheId: number, found: boolean): void {
    let tally = this.#counted.get(cacheId);
    if (tally === undefined) {
      tally = { hits: 0, misses: 0 };
      this.#counted.set(cacheId, tally);
      this.#timer ??= setTimeout(() => void this.flush().catch(() => undefined), FLUSH_MS).unref();
    }
    if (found) tally.hits++;
    else tally.misses++;
  }

  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const counted = this.#counted;
    this.#counted = new Map();
    const day = Math.floor(Date.now() / DAY_MS);
    for (const [cacheId, tally] of counted) await this.#write(cacheId, day, tally);
  }

  async #write(cacheId: number, day: number, tally: Tally): Promise<void> {
    await this.#database.write(async (transaction) => {
      // A cache that was removed meanwhile has no tally.
      const cache = await transaction
        .selectFrom('cache')
        .select('id')
        .where('id', '=', cacheId)
        .executeTakeFirst();
      if (cache === undefined) return;
      await transaction
        .insertInto('lookup_day')
        .values({ cache_id: cacheId, day, ...tally })
        .onConflict((conflict) =>
          conflict.columns(['cache_id', 'day']).doUpdateSet({
            hits: sql`lookup_day.hits + excluded.hits`,
            misses: sql`lookup_day.misses + excluded.misses`,
          }),
        )
        .execute();
      await transaction
        .deleteFrom('lookup_day')
        .where('day', '<', day - KEPT_DAYS)
        .execute();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.flush();
  }
}

export interface LookupFigures {
  /** That many days, today included. */
  readonly days: number;
  readonly hits: number;
  readonly misses: number;
}

/** By cache id; a cache that was not asked is not in it. */
export async function readLookups(
  database: Database,
  days = 30,
): Promise<ReadonlyMap<number, LookupFigures>> {
  const rows = await database.read
    .selectFrom('lookup_day')
    .select((builder) => [
      'cache_id',
      builder.fn.sum<number>('hits').as('hits'),
      builder.fn.sum<number>('misses').as('misses'),
    ])
    .where('day', '>', Math.floor(Date.now() / DAY_MS) - days)
    .groupBy('cache_id')
    .execute();
  return new Map(rows.map(({ cache_id, hits, misses }) => [cache_id, { days, hits, misses }]));
}
