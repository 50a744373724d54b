// Listings of published paths: as they were uploaded, else made from the NAR when somebody asks, and kept.
import { Semaphore } from '../util/concurrency.ts';
import type { Database } from '../storage/database.ts';
import type { Cache } from './cache-registry.ts';
import type { ContentReader } from './content-reader.ts';
import { listNar } from './nar-listing.ts';
import type { SideFile, SideFiles } from './side-files.ts';

/** A listing costs reading the whole NAR once. */
const LARGEST_NAR = 4 * 2 ** 30;
const AT_ONCE = 2;

export interface PathListingsParts {
  readonly database: Database;
  readonly contents: ContentReader;
  readonly sideFiles: SideFiles;
}

export class PathListings {
  readonly #parts: PathListingsParts;
  readonly #turns = new Semaphore(AT_ONCE);
  readonly #making = new Map<string, Promise<void>>();

  constructor(parts: PathListingsParts) {
    this.#parts = parts;
  }

  /** `undefined` when the path is not published, or too large to be listed. */
  async find(cache: Cache, hash: string): Promise<SideFile | undefined> {
    const name = `${hash}.ls`;
    const { sideFiles } = this.#parts;
    const held = await sideFiles.find(cache, name);
    if (held !== undefined) return held;
    await this.#make(cache, hash);
    return await sideFiles.find(cache, name);
  }

  /** Whoever asks meanwhile waits for the same listing. */
  async #make(cache: Cache, hash: string): Promise<void> {
    const key = `${cache.id}/${hash}`;
    const making =
      this.#making.get(key) ??
      this.#turns.run(async () => await this.#list(cache, hash)).finally(() => this.#making.delete(key));
    this.#making.set(key, making);
    await making;
  }

  async #list(cache: Cache, hash: string): Promise<void> {
    const nar = await this.#findNar(cache, hash);
    if (nar === undefined) return;
    const opened = await this.#parts.contents.open(nar, 'raw');
    const bytes = await opened?.start({ start: 0, end: opened.length });
    const listing = bytes && (await listNar(bytes));
    if (listing === undefined) return;
    async function* body(): AsyncGenerator<Buffer> {
      yield await Promise.resolve(Buffer.from(listing ?? ''));
    }
    await this.#parts.sideFiles.put({
      cache,
      name: `${hash}.ls`,
      body: body(),
      contentEncoding: undefined,
      writer: 'slipway',
    });
  }

  async #findNar(cache: Cache, hash: string): Promise<number | undefined> {
    const row = await this.#parts.database.read
      .selectFrom('store_path')
      .innerJoin('content', 'content.id', 'store_path.content_id')
      .select(['content.id', 'content.size'])
      .where('store_path.cache_id', '=', cache.id)
      .where('store_path.hash', '=', hash)
      .where('store_path.quarantined_at', 'is', null)
      .where('content.damaged_at', 'is', null)
      .executeTakeFirst();
    return row === undefined || row.size > LARGEST_NAR ? undefined : row.id;
  }
}
