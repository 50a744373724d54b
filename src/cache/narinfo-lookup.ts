// Answers "is this path here?": rendered narinfos from memory, else one query by primary key.
// Absence is remembered too, because most lookups miss: every client asks every substituter for every path.
import type { Database } from '../storage/database.ts';
import { LRUCache } from 'lru-cache';
import type { Cache } from './cache-registry.ts';
import { renderNarInfo, type RenderedNarInfo } from './rendered-narinfo.ts';

const CACHE_BYTES = 64 * 1024 * 1024; // a narinfo is about 700 bytes, kept twice: some 40,000 hot paths
const ABSENT_BYTES = 100;
// Writes through this process drop their entry at once; the times bound how long another replica's go unseen.
const PRESENT_TTL_MS = 60_000;
const ABSENT_TTL_MS = 5_000;

export class NarInfoLookup {
  readonly #database: Database;
  readonly #known = new LRUCache<string, RenderedNarInfo | 'absent'>({
    maxSize: CACHE_BYTES,
    sizeCalculation: (entry) => (entry === 'absent' ? ABSENT_BYTES : ABSENT_BYTES + 2 * entry.body.length),
    ttl: PRESENT_TTL_MS,
  });
  readonly #epochs = new Map<number, number>();
  #generation = 0;

  constructor(database: Database) {
    this.#database = database;
  }

  /** The narinfo as it is served; `undefined` when the path is not published or its content is damaged. */
  async find(
    { id: cacheId, epoch }: Pick<Cache, 'id' | 'epoch'>,
    hash: string,
  ): Promise<RenderedNarInfo | undefined> {
    this.#dropOldEpoch(cacheId, epoch);
    const key = `${cacheId}/${hash}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known === 'absent' ? undefined : known;
    const generation = this.#generation;
    const found = await this.#read(cacheId, hash);
    // A publication that finished meanwhile must not be hidden by what was read before it.
    if (generation === this.#generation)
      this.#known.set(key, found ?? 'absent', found ? {} : { ttl: ABSENT_TTL_MS });
    return found;
  }

  /** What memory says, without asking the database; `undefined` when that would be needed. */
  findKnown(
    { id: cacheId, epoch }: Pick<Cache, 'id' | 'epoch'>,
    hash: string,
  ): RenderedNarInfo | 'absent' | undefined {
    this.#dropOldEpoch(cacheId, epoch);
    return this.#known.get(`${cacheId}/${hash}`);
  }

  /** To be called after a path was published. */
  forget(cacheId: number, hash: string): void {
    this.#generation++;
    this.#known.delete(`${cacheId}/${hash}`);
  }

  /** To be called after contents were marked as damaged or healed. */
  forgetAll(): void {
    this.#generation++;
    this.#known.clear();
  }

  /** Another process took paths back: what was rendered before that is served no more. */
  #dropOldEpoch(cacheId: number, epoch: number): void {
    const before = this.#epochs.get(cacheId);
    if (before === epoch) return;
    this.#epochs.set(cacheId, epoch);
    if (before !== undefined) this.forgetAll();
  }

  async #read(cacheId: number, hash: string): Promise<RenderedNarInfo | undefined> {
    const row = await this.#database.read
      .selectFrom('store_path')
      .innerJoin('content', 'content.id', 'store_path.content_id')
      .select(['store_path.narinfo', 'store_path.tombstoned_at'])
      .where('store_path.cache_id', '=', cacheId)
      .where('store_path.hash', '=', hash)
      .where('store_path.quarantined_at', 'is', null)
      .where('content.damaged_at', 'is', null)
      .executeTakeFirst();
    if (row === undefined) return undefined;
    return renderNarInfo(hash, row.narinfo, row.tombstoned_at !== null);
  }
}
