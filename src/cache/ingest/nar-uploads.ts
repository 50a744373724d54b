// Takes NARs in. `nix copy` sends the NAR before the narinfo, so a NAR waits here, cut into durable chunks but seen by
// its writer alone, until a narinfo claims it (path-publisher.ts) or a day has passed.
import { createHash } from 'node:crypto';
import { NarReader } from '../../nix/nar-reader.ts';
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import { SlipwayError } from '../../util/errors.ts';
import type { Cache } from '../cache-registry.ts';
import { commitContent } from './commit-content.ts';
import { ContentWriter, type StagedContent } from './content-writer.ts';
import { decompressed, uploadCompression } from './decompress.ts';
import { FlatHash } from './flat-hash.ts';
import { inSteps } from './ingest-share.ts';
import { parseNarName } from '../nar-names.ts';
import type { PackPool } from './pack-pool.ts';

/** How long a NAR waits for its narinfo. */
const UPLOAD_LIFE_MS = 24 * 3600 * 1000;

export interface NarUploadRequest {
  readonly cache: Cache;
  /** Last segment of the URL: `<nix32 of the file's SHA-256>.nar[.zst|.xz]`. */
  readonly fileName: string;
  /** The file as it was sent. Must fail, not end, when the connection is cut. */
  readonly body: AsyncIterable<Buffer>;
  readonly writer: string;
  /** Most bytes that the NAR may have, decompressed. */
  readonly maxNarSize: number;
}

export class NarUploads {
  readonly #database: Database;
  readonly #blobs: BlobStore;
  readonly #packs: PackPool;

  constructor(database: Database, blobs: BlobStore, packs: PackPool) {
    this.#database = database;
    this.#blobs = blobs;
    this.#packs = packs;
  }

  /**
   * Stores a NAR durably. Fails with `nar_invalid` for anything but exactly one NAR, and with `invalid` when the file
   * does not have the hash that it is named by; nothing is then visible.
   */
  async put(request: NarUploadRequest): Promise<void> {
    const name = parseNarName(request.fileName);
    if (name === undefined) throw badName(request.fileName);
    const file = new CountedFile(request.body);
    await using writer = new ContentWriter(this.#database, this.#blobs, this.#packs.open());
    const flat = new FlatHash();
    const reader = new NarReader(flat, { maxSize: request.maxNarSize });
    const nar = decompressed(file.read(), uploadCompression(name.suffix));
    for await (const bytes of inSteps(nar)) {
      reader.write(bytes);
      await writer.write(bytes);
    }
    reader.end();
    const fileHash = file.hash();
    if (!fileHash.equals(name.hash)) throw wrongFileHash(request.fileName);
    const staged = { ...(await writer.finish()), flatHash: flat.hash() };
    await this.#commit(request, staged, { hash: fileHash, size: file.size });
  }

  /**
   * The content behind an uploaded file, for `viewer`: a writer's own waiting upload, or one that was published.
   * Clients remember the URL that they uploaded to for 30 days and download from it.
   */
  async find(cache: Cache, fileName: string, viewer: string | undefined): Promise<number | undefined> {
    const row = await this.#database.read
      .selectFrom('nar_upload')
      .innerJoin('content', 'content.id', 'nar_upload.content_id')
      .select('content_id')
      .where('nar_upload.cache_id', '=', cache.id)
      .where('nar_upload.file_name', '=', fileName)
      .where('content.damaged_at', 'is', null)
      .where((where) => where.or([where('expires_at', 'is', null), where.and({ writer: viewer ?? '' })]))
      .executeTakeFirst();
    return row?.content_id;
  }

  async #commit(
    request: NarUploadRequest,
    content: StagedContent & { readonly flatHash: Buffer | undefined },
    file: { readonly hash: Buffer; readonly size: number },
  ): Promise<void> {
    const now = Date.now();
    await this.#database.write(async (transaction) => {
      const content_id = await commitContent(transaction, content, now);
      await transaction
        .insertInto('nar_upload')
        .values({
          cache_id: request.cache.id,
          file_name: request.fileName,
          writer: request.writer,
          content_id,
          file_hash: file.hash,
          file_size: file.size,
          created_at: now,
          expires_at: now + UPLOAD_LIFE_MS,
        })
        // The name is the file's hash, so it is the same content again; a published one stays published.
        .onConflict((conflict) =>
          conflict
            .columns(['cache_id', 'file_name', 'writer'])
            .doUpdateSet({ expires_at: now + UPLOAD_LIFE_MS })
            .where('nar_upload.expires_at', 'is not', null),
        )
        .execute();
    });
  }
}

/** Counts and hashes the file as it was sent. */
class CountedFile {
  readonly #body: AsyncIterable<Buffer>;
  readonly #hash = createHash('sha256');
  size = 0;

  constructor(body: AsyncIterable<Buffer>) {
    this.#body = body;
  }

  async *read(): AsyncIterable<Buffer> {
    for await (const bytes of this.#body) {
      this.#hash.update(bytes);
      this.size += bytes.length;
      yield bytes;
    }
  }

  hash(): Buffer {
    return this.#hash.digest();
  }
}

function badName(fileName: string): SlipwayError {
  return new SlipwayError('invalid', `"${fileName.slice(0, 100)}" is not the name of a NAR file.`, {
    next: "NARs are uploaded as nar/<nix32 of the file's SHA-256>.nar.zst.",
  });
}

function wrongFileHash(fileName: string): SlipwayError {
  return new SlipwayError(
    'nar_hash_mismatch',
    `The file sent as ${fileName} has another SHA-256 than its name says.`,
    {
      next: 'Push it again; if it happens again, look at the memory and the network of the sender.',
    },
  );
}
