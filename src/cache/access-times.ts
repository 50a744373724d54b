// When paths were last asked for, gathered in memory and written once a minute: retention needs days, not seconds.
import type { Database } from '../storage/database.ts';
import { sleep } from '../util/deadline.ts';
import { rescuePaths } from './garbage/rescue-paths.ts';

const FLUSH_MS = 60_000;
const MOST_PENDING = 50_000; // about 10 MB; more are written early
// All at once would hold up requests for seconds: each row lies elsewhere on the disk, and each commit waits for it.
const ROWS_A_WRITE = 100;
const PAUSE_MS = 10;

interface Use {
  readonly cacheId: number;
  readonly hash: string;
  readonly at: number;
}

export class AccessTimes implements AsyncDisposable {
  readonly #database: Database;
  #touched = new Map<string, Use>();
  #timer: NodeJS.Timeout | undefined;
  #round = 0;
  #closing = false;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Changes with each flush: what was touched in this round need not be touched again. */
  get round(): number {
    return this.#round;
  }

  touch(cacheId: number, hash: string): void {
    this.#touched.set(`${cacheId}/${hash}`, { cacheId, hash, at: Date.now() });
    this.#timer ??= setTimeout(() => this.#flushLater(), FLUSH_MS).unref();
    if (this.#touched.size === MOST_PENDING) setImmediate(() => this.#flushLater());
  }

  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#round++;
    const touched = this.#touched;
    this.#touched = new Map();
    if (touched.size === 0) return;
    const byCache = Map.groupBy(touched.values(), ({ cacheId }) => cacheId);
    for (const [cacheId, uses] of byCache)
      for (let from = 0; from < uses.length; from += ROWS_A_WRITE) {
        await this.#write(cacheId, uses.slice(from, from + ROWS_A_WRITE));
        if (!this.#closing) await sleep(PAUSE_MS);
      }
  }

  /** All get the time of the latest: a minute more is no matter. */
  async #write(cacheId: number, uses: readonly Use[]): Promise<void> {
    const at = Math.max(...uses.map((use) => use.at));
    await this.#database.write(async (transaction) => {
      const rows = await transaction
        .updateTable('store_path')
        .set({ last_access_at: at })
        .where('cache_id', '=', cacheId)
        .where(
          'hash',
          'in',
          uses.map(({ hash }) => hash),
        )
        .returning(['hash', 'tombstoned_at'])
        .execute();
      // Tombstoned between the look-up and now.
      const dying = rows.filter((row) => row.tombstoned_at !== null).map(({ hash }) => hash);
      if (dying.length > 0) await rescuePaths(transaction, cacheId, dying, at);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    await this.flush();
  }

  /** A failed flush loses one minute of access times, which retention by days does not notice. */
  #flushLater(): void {
    this.flush().catch(() => undefined);
  }
}
