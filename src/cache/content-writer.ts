// Turns a stream of bytes into chunks, skips the chunks that are held, and puts the others into packs.
// Nothing is visible afterwards: commit-content.ts does that, in one transaction.
import { createHash, hash as oneShotHash } from 'node:crypto';
import type { Database } from '../storage/database.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import { mapBounded } from '../util/concurrency.ts';
import { Chunker } from './chunker.ts';
import { encodeFrame } from './frame-codec.ts';
import { FRAME_KIND } from './pack-format.ts';
import { PackWriter, type SealedPack } from './pack-writer.ts';
import { formatRecipe, type RecipeChunk } from './recipe.ts';

// A batch is asked for in one query and compressed in parallel while the next one fills: at most two batches are in
// memory, about 2 x 16 x 128 KiB, at worst 16 MiB.
const BATCH_CHUNKS = 16;
const COMPRESSORS = 4; // libuv's default pool size

export interface StagedContent {
  readonly hash: Buffer;
  readonly size: number;
  readonly recipe: Buffer;
  /** Durable packs with the new chunks and the recipe. */
  readonly packs: readonly SealedPack[];
}

interface StagedChunk {
  readonly hash: Buffer;
  readonly bytes: Buffer;
}

export class ContentWriter implements AsyncDisposable {
  readonly #database: Database;
  readonly #packs: PackWriter;
  readonly #chunker = new Chunker();
  readonly #hash = createHash('sha256');
  readonly #recipe: RecipeChunk[] = [];
  readonly #stored = new Set<string>();
  #batch: StagedChunk[] = [];
  #storing: Promise<void> = Promise.resolve();
  #size = 0;

  constructor(database: Database, blobs: BlobStore) {
    this.#database = database;
    this.#packs = new PackWriter(blobs);
  }

  /** Takes bytes in; waits when more than two batches would be in memory. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes);
    this.#size += bytes.length;
    this.#chunker.push(bytes, this.#add);
    if (this.#batch.length >= BATCH_CHUNKS) await this.#store();
  }

  async finish(): Promise<StagedContent> {
    this.#chunker.end(this.#add);
    await this.#store();
    await this.#storing;
    const hash = this.#hash.digest();
    const recipe = formatRecipe({ hash, size: this.#size, chunks: this.#recipe });
    const frame = await encodeFrame(recipe);
    await this.#packs.append(frame, { kind: FRAME_KIND.recipe, hash, rawLength: recipe.length });
    const packs = await this.#packs.finish();
    return { hash, size: this.#size, recipe, packs };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#storing.catch(() => undefined); // its failure was or will be reported to whoever wrote
    await this.#packs[Symbol.asyncDispose]();
  }

  readonly #add = (bytes: Buffer): void => {
    const hash = oneShotHash('sha256', bytes, 'buffer');
    this.#batch.push({ hash, bytes });
    this.#recipe.push({ hash, rawLength: bytes.length });
  };

  /** Starts storing the gathered batch once the one before is stored. */
  async #store(): Promise<void> {
    const batch = this.#batch;
    this.#batch = [];
    await this.#storing;
    this.#storing = this.#storeBatch(batch);
    this.#storing.catch(() => undefined); // awaited by the next call
  }

  async #storeBatch(batch: readonly StagedChunk[]): Promise<void> {
    const missing = await this.#findMissing(batch);
    const frames = await mapBounded(missing, COMPRESSORS, async ({ bytes }) => await encodeFrame(bytes));
    for (const [index, frame] of frames.entries()) {
      const { hash, bytes } = missing[index] as StagedChunk;
      await this.#packs.append(frame, { kind: FRAME_KIND.chunk, hash, rawLength: bytes.length });
    }
  }

  /** Chunks of the batch that are neither held intact, and to stay, nor already in this upload. */
  async #findMissing(batch: readonly StagedChunk[]): Promise<StagedChunk[]> {
    const fresh = batch.filter(({ hash }) => {
      const key = hash.toString('latin1');
      return this.#stored.has(key) ? false : this.#stored.add(key);
    });
    if (fresh.length === 0) return [];
    const rows = await this.#database.read
      .selectFrom('chunk')
      .select('hash')
      .where(
        'hash',
        'in',
        fresh.map(({ hash }) => hash),
      )
      .where('damaged_at', 'is', null)
      .where('orphaned_at', 'is', null)
      .execute();
    const held = new Set(rows.map((row) => Buffer.from(row.hash).toString('latin1')));
    return fresh.filter(({ hash }) => !held.has(hash.toString('latin1')));
  }
}
