// When paths were last asked for, gathered in memory and written once a minute: retention needs days, not seconds.
import type { Database } from '../storage/database.ts';
import { sleep } from '../util/deadline.ts';
import { rescuePaths } from './garbage/rescue-paths.ts';

const FLUSH_MS = 60_000;
const MOST_PENDING = 50_000; // some MB; more are written early
// All at once would hold up requests for seconds: each row lies elsewhere on the disk, and each commit waits for it.
const ROWS_A_WRITE = 100;
const PAUSE_MS = 10;

/** What was asked for in one cache. All get the time of the latest: a minute more is no matter. */
interface Uses {
  readonly hashes: Set<string>;
  at: number;
}

export class AccessTimes implements AsyncDisposable {
  readonly #database: Database;
  #touched = new Map<number, Uses>();
  #pending = 0;
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
    const uses = this.#usesOf(cacheId);
    uses.at = Date.now();
    if (uses.hashes.has(hash)) return;
    uses.hashes.add(hash);
    this.#timer ??= setTimeout(() => this.#flushLater(), FLUSH_MS).unref();
    if (++this.#pending === MOST_PENDING) setImmediate(() => this.#flushLater());
  }

  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#round++;
    const touched = this.#touched;
    this.#touched = new Map();
    this.#pending = 0;
    for (const [cacheId, { hashes, at }] of touched)
      for (let left = hashes.values(), batch = take(left); batch.length > 0; batch = take(left)) {
        await this.#write(cacheId, batch, at);
        if (!this.#closing) await sleep(PAUSE_MS);
      }
  }

  #usesOf(cacheId: number): Uses {
    let uses = this.#touched.get(cacheId);
    if (uses === undefined) this.#touched.set(cacheId, (uses = { hashes: new Set(), at: 0 }));
    return uses;
  }

  async #write(cacheId: number, hashes: readonly string[], at: number): Promise<void> {
    await this.#database.write(async (transaction) => {
      const rows = await transaction
        .updateTable('store_path')
        .set({ last_access_at: at })
        .where('cache_id', '=', cacheId)
        .where('hash', 'in', hashes)
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

/** The next of them, for one write. */
function take(left: Iterator<string>): string[] {
  const batch: string[] = [];
  while (batch.length < ROWS_A_WRITE) {
    const next = left.next();
    if (next.done === true) break;
    batch.push(next.value);
  }
  return batch;
}
