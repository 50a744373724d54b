// What Nix clients store beside narinfos and NARs: build logs, NAR listings, realisations, debug info indexes.
// Kept as they came, in chunks like everything else; a later upload replaces an earlier one.
import type { Database } from '../storage/database.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Cache } from './cache-registry.ts';
import { commitContent } from './ingest/commit-content.ts';
import { ContentWriter } from './ingest/content-writer.ts';
import type { PackPool } from './ingest/pack-pool.ts';

const STORE_HASH = '[0-9abcdfghijklmnpqrsvwxyz]{32}';
const MIB = 1024 * 1024;

interface Kind {
  readonly name: RegExp;
  readonly contentType: string;
  readonly largest: number;
}

const KINDS: readonly Kind[] = [
  {
    name: new RegExp(`^log/${STORE_HASH}-[\\w+.?=-]{1,211}\\.drv$`),
    contentType: 'text/plain; charset=utf-8',
    largest: 256 * MIB,
  },
  { name: new RegExp(`^${STORE_HASH}\\.ls$`), contentType: 'application/json', largest: 64 * MIB },
  {
    name: /^realisations\/sha256:[0-9a-f]{64}![\w.+-]{1,100}\.doi$/,
    contentType: 'application/json',
    largest: MIB,
  },
  {
    name: /^build-trace-v2\/[\w+.?=-]{1,260}\/[\w.+-]{1,100}\.doi$/,
    contentType: 'application/json',
    largest: MIB,
  },
  { name: /^debuginfo\/[0-9a-f]{40}(\.debug)?$/, contentType: 'application/json', largest: MIB },
];

export interface SideFile {
  readonly contentId: number;
  readonly contentType: string;
  /** As the client sent it, to be sent back: the bytes are stored encoded. */
  readonly contentEncoding: string | undefined;
}

export interface SideFileUpload {
  readonly cache: Cache;
  readonly name: string;
  readonly body: AsyncIterable<Buffer>;
  readonly contentEncoding: string | undefined;
  readonly writer: string;
}

export class SideFiles {
  readonly #database: Database;
  readonly #blobs: BlobStore;
  readonly #packs: PackPool;

  constructor(database: Database, blobs: BlobStore, packs: PackPool) {
    this.#database = database;
    this.#blobs = blobs;
    this.#packs = packs;
  }

  /** Most bytes that a file of this name may have; `undefined` when no such file is ever stored. */
  limitOf(name: string): number | undefined {
    return kindOf(name)?.largest;
  }

  /** The content type of files of this name; `undefined` when no such file is ever stored. */
  typeOf(name: string): string | undefined {
    return kindOf(name)?.contentType;
  }

  async find(cache: Cache, name: string): Promise<SideFile | undefined> {
    const kind = kindOf(name);
    if (kind === undefined) return undefined;
    const row = await this.#database.read
      .selectFrom('side_file')
      .select(['content_id', 'content_encoding'])
      .where('cache_id', '=', cache.id)
      .where('name', '=', name)
      .executeTakeFirst();
    if (row === undefined) return undefined;
    return {
      contentId: row.content_id,
      contentType: kind.contentType,
      contentEncoding: row.content_encoding ?? undefined,
    };
  }

  /** Replaces what is there under the name; with `ifAbsent`, that stays. Returns how many bytes came. */
  async put(upload: SideFileUpload, ifAbsent = false): Promise<number> {
    const encoding = upload.contentEncoding ?? null;
    if (encoding !== null && !/^[a-z0-9-]{1,20}$/.test(encoding))
      throw new SlipwayError('invalid', 'The Content-Encoding is not one that can be stored.');
    await using writer = new ContentWriter(this.#database, this.#blobs, this.#packs.open());
    for await (const bytes of upload.body) await writer.write(bytes);
    const staged = await writer.finish();
    const now = Date.now();
    await this.#database.write(async (transaction) => {
      const content_id = await commitContent(transaction, { ...staged, flatHash: undefined }, now);
      const row = { content_id, content_encoding: encoding, writer: upload.writer, updated_at: now };
      await transaction
        .insertInto('side_file')
        .values({ cache_id: upload.cache.id, name: upload.name, ...row })
        .onConflict((conflict) => {
          const taken = conflict.columns(['cache_id', 'name']);
          return ifAbsent ? taken.doNothing() : taken.doUpdateSet(row);
        })
        .execute();
    });
    return staged.size;
  }
}

function kindOf(name: string): Kind | undefined {
  return KINDS.find((kind) => kind.name.test(name));
}
