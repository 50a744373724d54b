// When paths were last asked for, gathered in memory and written once a minute: retention needs days, not seconds.
import type { Database } from '../storage/database.ts';
import { rescuePaths } from './rescue-paths.ts';

const FLUSH_MS = 60_000;
const MOST_PENDING = 10_000; // about 2 MB; more are written early

export class AccessTimes implements AsyncDisposable {
  readonly #database: Database;
  #touched = new Map<string, { readonly cacheId: number; readonly hash: string; readonly at: number }>();
  #timer: NodeJS.Timeout | undefined;
  #round = 0;

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
    await this.#database.write(async (transaction) => {
      for (const { cacheId, hash, at } of touched.values()) {
        const row = await transaction
          .updateTable('store_path')
          .set({ last_access_at: at })
          .where('cache_id', '=', cacheId)
          .where('hash', '=', hash)
          .returning('tombstoned_at')
          .executeTakeFirst();
        // Tombstoned between the look-up and now.
        if (row !== undefined && row.tombstoned_at !== null)
          await rescuePaths(transaction, cacheId, [hash], at);
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.flush();
  }

  /** A failed flush loses one minute of access times, which retention by days does not notice. */
  #flushLater(): void {
    this.flush().catch(() => undefined);
  }
}
