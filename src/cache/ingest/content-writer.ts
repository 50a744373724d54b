// Turns a stream of bytes into chunks, skips the chunks that are held, and puts the others into packs. References and
// build-ids are taken out before the cuts are made (normaliser.ts), so that a rebuild finds most of its chunks held.
// Nothing is visible afterwards: commit-content.ts does that, in one transaction.
import { createHash } from 'node:crypto';
import type { Database } from '../../storage/database.ts';
import type { BlobStore } from '../../storage/blob-store.ts';
import { mapBounded } from '../../util/concurrency.ts';
import { chunkGroups, encodeGroup, type ChunkFrame } from '../../content/chunk-frames.ts';
import { ChunkPatcher, plain, type PatchedChunk } from '../../content/chunk-patcher.ts';
import { Chunker } from '../../content/chunker.ts';
import { encodeFrame, FRAME_BYTES } from '../../content/frame-codec.ts';
import { Normaliser, type NormalisedBytes } from '../../content/normaliser.ts';
import { FRAME_KIND } from '../../content/pack-format.ts';
import { PackWriter, type PackSink, type SealedPack } from './pack-writer.ts';
import { formatRecipe, type RecipeChunk } from '../../content/recipe.ts';

// A batch is asked for in one query and compressed in parallel while the next one fills: at most two batches are in
// memory. The last frame of each is cut short, so it is several frames long.
const BATCH_BYTES = 8 * FRAME_BYTES;
const COMPRESSORS = 4; // libuv's default pool size

export interface StagedContent {
  readonly hash: Buffer;
  readonly size: number;
  readonly recipe: Buffer;
  /** Durable packs with the new chunks and the recipe. */
  readonly packs: readonly SealedPack[];
}

interface StagedChunk extends PatchedChunk {
  /** Place in the recipe. */
  readonly index: number;
}

export class ContentWriter implements AsyncDisposable {
  readonly #database: Database;
  readonly #packs: PackSink;
  readonly #normaliser = new Normaliser();
  readonly #patcher = new ChunkPatcher();
  readonly #chunker = new Chunker();
  readonly #hash = createHash('sha256');
  readonly #recipe: RecipeChunk[] = [];
  readonly #stored = new Set<string>();
  readonly #unpatchable = new Set<string>();
  #batch: StagedChunk[] = [];
  #batchBytes = 0;
  #storing: Promise<void> = Promise.resolve();
  #size = 0;

  /** Disposes of `packs` with itself. */
  constructor(database: Database, blobs: BlobStore, packs: PackSink = new PackWriter(blobs)) {
    this.#database = database;
    this.#packs = packs;
  }

  /** Takes bytes in; waits when more than two batches would be in memory. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes);
    this.#size += bytes.length;
    this.#push(this.#normaliser.push(bytes));
    if (this.#batchBytes >= BATCH_BYTES) await this.#store();
  }

  async finish(): Promise<StagedContent> {
    this.#push(this.#normaliser.end());
    this.#chunker.end(this.#add);
    await this.#store();
    await this.#storing;
    const hash = this.#hash.digest();
    const recipe = formatRecipe({ hash, size: this.#size, chunks: this.#recipe });
    const frame = await encodeFrame(recipe);
    const parts = [{ hash, rawLength: recipe.length }];
    await this.#packs.append(frame, { kind: FRAME_KIND.recipe, parts });
    const packs = await this.#packs.finish();
    return { hash, size: this.#size, recipe, packs };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#storing.catch(() => undefined); // its failure was or will be reported to whoever wrote
    await this.#packs[Symbol.asyncDispose]();
  }

  #push({ bytes, taken }: NormalisedBytes): void {
    this.#patcher.add(taken);
    this.#chunker.push(bytes, this.#add);
  }

  readonly #add = (bytes: Buffer): void => {
    const chunk = { ...this.#patcher.patch(bytes), index: this.#recipe.length };
    this.#batch.push(chunk);
    this.#batchBytes += bytes.length;
    this.#list(chunk);
  };

  #list({ index, hash, bytes, patches }: StagedChunk): void {
    this.#recipe[index] = { hash, rawLength: bytes.length, ...(patches.length > 0 && { patches }) };
  }

  /** Starts storing the gathered batch once the one before is stored. */
  async #store(): Promise<void> {
    const batch = this.#batch;
    this.#batch = [];
    this.#batchBytes = 0;
    await this.#storing;
    this.#storing = this.#storeBatch(batch);
    this.#storing.catch(() => undefined); // awaited by the next call
  }

  async #storeBatch(batch: readonly StagedChunk[]): Promise<void> {
    const missing = await this.#findMissing(batch);
    const frames = (
      await mapBounded(groupMissing(batch, missing), COMPRESSORS, async (group) => await encodeGroup(group))
    ).flat();
    const framed = new Set(frames.flatMap(({ chunks }) => chunks));
    for (const chunk of missing) if (!framed.has(chunk)) this.#unpatchable.add(keyOf(chunk));
    for (const frame of frames) await this.#append(frame);
    // zstd does not always make the blocks that places need: such chunks are stored as they came.
    for (const chunk of batch) if (this.#unpatchable.has(keyOf(chunk))) await this.#storePlain(chunk);
  }

  async #storePlain(chunk: StagedChunk): Promise<void> {
    const restored = { ...plain(chunk), index: chunk.index };
    this.#list(restored);
    for (const missing of await this.#findMissing([restored]))
      await this.#append({ chunks: [missing], frame: await encodeFrame(missing.bytes) });
  }

  async #append({ chunks, frame }: ChunkFrame): Promise<void> {
    const parts = chunks.map(({ hash, bytes }) => ({ hash, rawLength: bytes.length }));
    await this.#packs.append(frame, { kind: FRAME_KIND.chunk, parts });
  }

  /** Chunks of the batch that are neither held intact, and to stay, nor already in this upload. */
  async #findMissing(batch: readonly StagedChunk[]): Promise<StagedChunk[]> {
    const fresh = batch.filter((chunk) => {
      const key = keyOf(chunk);
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
    return fresh.filter((chunk) => !held.has(keyOf(chunk)));
  }
}

/** Neighbours that are to be stored share frames. */
function groupMissing(batch: readonly StagedChunk[], missing: readonly StagedChunk[]): PatchedChunk[][] {
  const wanted = new Set(missing);
  const groups = chunkGroups();
  for (const chunk of batch)
    if (wanted.has(chunk)) groups.add(chunk);
    else groups.part();
  return groups.groups;
}

function keyOf({ hash }: PatchedChunk): string {
  return hash.toString('latin1');
}
