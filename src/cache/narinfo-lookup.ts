// Answers "is this path here?": rendered narinfos from memory, else one query by primary key.
// Absence is remembered too, because most lookups miss: every client asks every substituter for every path.
import type { Database } from '../storage/database.ts';
import type { CompiledQuery, ExpressionBuilder } from 'kysely';
import { LRUCache } from 'lru-cache';
import type { Schema } from '../storage/schema.ts';
import type { Cache } from './cache-registry.ts';
import { renderNarInfo, type RenderedNarInfo } from './rendered-narinfo.ts';

const CACHE_BYTES = 40 * 1024 * 1024; // a narinfo is about 700 bytes: some 40,000 hot paths
const ENTRY_BYTES = 300; // key, place in the list, and what is beside the text
// Writes through this process drop their entry at once; the times bound how long another replica's go unseen.
const PRESENT_TTL_MS = 60_000;
const ABSENT_TTL_MS = 5_000;

export class NarInfoLookup {
  readonly #database: Database;
  readonly #known = new LRUCache<string, RenderedNarInfo | 'absent'>({
    maxSize: CACHE_BYTES,
    sizeCalculation: (entry) => (entry === 'absent' ? ENTRY_BYTES : ENTRY_BYTES + entry.bytes),
    ttl: PRESENT_TTL_MS,
  });
  readonly #epochs = new Map<number, number>();
  #generation = 0;
  #query: CompiledQuery<NarInfoRow> | undefined;

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
    const query = (this.#query ??= lookUp(this.#database));
    const asked = { ...query, parameters: [cacheId, hash] };
    const [row] = (await this.#database.read.executeQuery<NarInfoRow>(asked)).rows;
    return row && renderNarInfo(hash, row.narinfo, row.tombstoned_at !== null);
  }
}

interface NarInfoRow {
  readonly narinfo: string;
  readonly tombstoned_at: number | null;
}

/** Made into SQL once, for any cache and hash: Kysely takes longer for that than SQLite for the answer. */
function lookUp({ read }: Database): CompiledQuery<NarInfoRow> {
  return read
    .selectFrom('store_path')
    .select(['narinfo', 'tombstoned_at'])
    .where('cache_id', '=', 0)
    .where('hash', '=', '')
    .where('quarantined_at', 'is', null)
    .where((where) => where.not(where.exists(damagedContent(where))))
    .compile();
}

/** A range of one id: by equality, SQLite would look at the content itself, not at the small index of damaged ones. */
function damagedContent(where: ExpressionBuilder<Schema, 'store_path'>) {
  return where
    .selectFrom('content')
    .select('content.id')
    .where('damaged_at', 'is not', null)
    .whereRef('content.id', '>=', 'store_path.content_id')
    .whereRef('content.id', '<=', 'store_path.content_id');
}
