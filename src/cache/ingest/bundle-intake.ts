// Takes the chunks of one bundle in: proves every frame that was sent, reads those that are counted on, restores the NARs.
// What is new goes into packs once all of it is proven, so that a bundle which is refused leaves nothing on the disk either.
// In memory are two batches of chunks and the frames of the bundle, which is small.
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import { asSlipwayError, SlipwayError } from '../../util/errors.ts';
import { mapBounded } from '../../util/concurrency.ts';
import type { BeginRecord, ChunkRecord, FrameRecord, ResumeRecord } from '../../content/bundle-format.ts';
import { patchedChunkHash } from '../../content/chunk-identity.ts';
import { decodeFrame } from '../../content/frame-codec.ts';
import { FILLER } from '../../content/normaliser.ts';
import { FRAME_KIND, rawLengthOf, type FrameContents } from '../../content/pack-format.ts';
import { verifyFrame, type NamedChunk } from '../../content/verify-frame.ts';
import type { BundlePlace } from './bundle-order.ts';
import { ChunkMemory } from './chunk-memory.ts';
import { chunkKey } from '../stored-chunks.ts';
import { absentChunk, findHeldChunks, findStoredChunks, type ChunkScope } from './held-chunks.ts';
import { ingestShare } from './ingest-share.ts';
import { NarRestorer, type RestoredNar } from './nar-restorer.ts';
import type { PackSink } from './pack-writer.ts';
import { readChunks } from './read-chunks.ts';
import type { UploadSessions } from './upload-sessions.ts';

const BATCH_CHUNKS = 64;
const BATCH_BYTES = 4 * 1024 * 1024;
const CODERS = 4; // libuv's default pool size

export interface BundleIntakeParts {
  readonly database: Database;
  readonly blobs: BlobStore;
  readonly sessions: UploadSessions;
  readonly scope: ChunkScope;
  readonly place: BundlePlace;
  readonly maxNarSize: number;
}

/** One NAR of the bundle, and how far it has come. */
export interface ArrivingNar {
  readonly hash: Buffer;
  /** `undefined`: what earlier bundles brought of it is not known here; its chunks are only stored. */
  readonly restorer: NarRestorer | undefined;
  /** The chunks that this bundle brought. */
  readonly sent: Map<string, Buffer>;
  /** Bytes of those that were stored nowhere. */
  freshBytes: number;
  restored?: RestoredNar;
  failure?: SlipwayError;
}

interface Arrival {
  readonly record: ChunkRecord | FrameRecord;
  readonly nar: ArrivingNar;
}

/** Where in this bundle a chunk came. */
interface SentChunk {
  readonly record: FrameRecord;
  readonly offset: number;
}

export class BundleIntake implements AsyncDisposable {
  readonly nars: ArrivingNar[] = [];
  readonly #parts: BundleIntakeParts;
  /** Chunks of this bundle: later ones of the same name may count on them, although they are not durable yet. */
  readonly #sent = new Map<string, SentChunk>();
  readonly #countedOn: BundlePlace[] = [];
  /** Frames of which a chunk is stored nowhere yet. */
  readonly #fresh: FrameRecord[] = [];
  #deadBytes = 0;
  #batch: Arrival[] = [];
  #batchChunks = 0;
  #batchBytes = 0;
  #working: Promise<void> = Promise.resolve();

  constructor(parts: BundleIntakeParts) {
    this.#parts = parts;
  }

  begin({ hash, size }: BeginRecord): void {
    if (size > this.#parts.maxNarSize)
      throw new SlipwayError(
        'too_large',
        `A NAR may have ${this.#parts.maxNarSize} bytes here, not ${size}.`,
      );
    this.nars.push({
      hash: Buffer.from(hash),
      restorer: new NarRestorer(hash, size),
      sent: new Map(),
      freshBytes: 0,
    });
  }

  async resume({ hash, chunks }: ResumeRecord): Promise<void> {
    const { sessions, scope, place } = this.#parts;
    await place.beforeTaken();
    const half = sessions.take(scope, hash, chunks);
    if (half !== undefined) this.#countedOn.push(half.bundle);
    this.nars.push({ hash: Buffer.from(hash), restorer: half?.restorer, sent: new Map(), freshBytes: 0 });
  }

  /** Bundles before this one whose chunks it needs. */
  get countedOn(): readonly BundlePlace[] {
    return this.#countedOn;
  }

  /** Waits while two batches are worked on. */
  async add(record: ChunkRecord | FrameRecord): Promise<void> {
    const nar = this.nars.at(-1);
    if (nar === undefined)
      throw new SlipwayError('invalid', 'The upload has a chunk that belongs to no NAR.');
    this.#batch.push({ record, nar });
    this.#batchChunks += chunksOf(record).length;
    this.#batchBytes += record.kind === 'frame' ? record.frame.length : 0;
    if (this.#batchChunks >= BATCH_CHUNKS || this.#batchBytes >= BATCH_BYTES) await this.#flush();
  }

  /** Every frame that was added is proven afterwards, and every NAR that is whole is so too or has failed. */
  async finish(): Promise<void> {
    await this.#flush();
    await this.#working;
  }

  /** Puts what is new into packs; to be called once it is finished. */
  async store(packs: PackSink): Promise<void> {
    for (const record of this.#fresh) await packs.append(record.frame, contentsOf(record));
  }

  /** What of that is more than the new chunks' own bytes: copies of what is stored already, and padding. */
  get deadBytes(): number {
    return this.#deadBytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#working.catch(() => undefined); // whoever added has heard of it
  }

  /** Proving begins at once and goes on beside the restoring of the batch before. */
  async #flush(): Promise<void> {
    const batch = this.#batch;
    this.#batch = [];
    this.#batchChunks = 0;
    this.#batchBytes = 0;
    const before = this.#working;
    const memory = new ChunkMemory();
    const proven = this.#prove(batch, memory);
    proven.catch(() => undefined); // awaited below
    const work = async (): Promise<void> => {
      await before;
      await this.#take(batch, await proven, memory);
      memory.release(); // not after a failure: something may still be decoding
    };
    await before;
    this.#working = work();
    this.#working.catch(() => undefined); // awaited by the next call
  }

  /** The bytes of the chunks that came in frames. */
  async #prove(batch: readonly Arrival[], memory: ChunkMemory): Promise<Map<ChunkRecord, Buffer>> {
    const proven = new Map<ChunkRecord, Buffer>();
    await mapBounded(framesOf(batch), CODERS, async (record) => {
      const target = memory.take(rawLengthOf(contentsOf(record)));
      const bytes = await verifyFrame(record.frame, record.chunks.map(namedChunk), target);
      for (const [n, chunk] of record.chunks.entries()) proven.set(chunk, bytes[n] as Buffer);
    });
    return proven;
  }

  async #take(
    batch: readonly Arrival[],
    proven: ReadonlyMap<ChunkRecord, Buffer>,
    memory: ChunkMemory,
  ): Promise<void> {
    await this.#sort(batch);
    const held = await this.#readCountedOn(batch, memory);
    for (const { record, nar } of batch)
      for (const chunk of chunksOf(record)) {
        if (nar.restorer === undefined) continue;
        await ingestShare.next();
        const own = proven.get(chunk);
        const bytes = own ?? held.get(chunkKey(chunk.hash));
        if (bytes?.length !== chunk.rawLength) throw absentChunk();
        restore(nar, chunk, { bytes, isOwn: own !== undefined });
      }
  }

  /** Looks for frames of which a chunk is stored nowhere yet; what else is in them is dead weight until repacking. */
  async #sort(batch: readonly Arrival[]): Promise<void> {
    const hashes = framesOf(batch).flatMap(({ chunks }) => chunks.map(({ hash }) => hash));
    const stored = await findStoredChunks(this.#parts.database, hashes);
    for (const { record, nar } of batch) {
      if (record.kind !== 'frame') continue;
      for (const { hash } of record.chunks) nar.sent.set(chunkKey(hash), hash);
      const fresh = record.chunks.filter(({ hash }) => {
        const key = chunkKey(hash);
        return !stored.has(key) && !this.#sent.has(key);
      });
      this.#note(record);
      if (fresh.length === 0) continue;
      this.#fresh.push(record);
      const freshBytes = fresh.reduce((sum, { rawLength }) => sum + rawLength, 0);
      nar.freshBytes += freshBytes;
      this.#deadBytes += Math.max(0, record.frame.length - freshBytes);
    }
  }

  #note(record: FrameRecord): void {
    let offset = 0;
    for (const { hash, rawLength } of record.chunks) {
      this.#sent.set(chunkKey(hash), { record, offset });
      offset += rawLength;
    }
  }

  /** The bytes of the chunks that came by name only, as they are stored: of earlier ones of this bundle, and of those held. */
  async #readCountedOn(batch: readonly Arrival[], memory: ChunkMemory): Promise<Map<string, Buffer>> {
    const earlier = new Map<string, ChunkRecord>();
    const held = new Map<string, Buffer>();
    for (const { record, nar } of batch) {
      if (record.kind === 'frame' || nar.restorer === undefined) continue;
      const key = chunkKey(record.hash);
      if (this.#sent.has(key)) earlier.set(key, record);
      else held.set(key, record.hash);
    }
    const found = await this.#readHeld([...held.values()], memory);
    await mapBounded([...earlier], CODERS, async ([key, { rawLength }]) => {
      const { record, offset } = this.#sent.get(key) as SentChunk;
      const length = rawLengthOf(contentsOf(record));
      const raw = await decodeFrame(record.frame, length, memory.take(length));
      found.set(key, raw.subarray(offset, offset + rawLength));
    });
    return found;
  }

  async #readHeld(hashes: readonly Buffer[], memory: ChunkMemory): Promise<Map<string, Buffer>> {
    if (hashes.length === 0) return new Map();
    const { database, scope, place } = this.#parts;
    let found = await findHeldChunks(database, scope, hashes);
    if (found.length < hashes.length) {
      await place.beforeEnded(); // they may have come in the bundle before
      found = await findHeldChunks(database, scope, hashes);
    }
    return await readChunks(this.#parts, found, memory);
  }
}

function chunksOf(record: ChunkRecord | FrameRecord): readonly ChunkRecord[] {
  return record.kind === 'frame' ? record.chunks : [record];
}

function contentsOf({ chunks }: FrameRecord): FrameContents {
  return { kind: FRAME_KIND.chunk, parts: chunks };
}

function framesOf(batch: readonly Arrival[]): FrameRecord[] {
  return batch.flatMap(({ record }) => (record.kind === 'frame' ? [record] : []));
}

function namedChunk({ hash, rawLength, patches }: ChunkRecord): NamedChunk {
  return {
    hash,
    rawLength,
    places: patches.map(({ offset, literal }) => ({ offset, length: literal.length })),
  };
}

/** What is wrong with one NAR is told with its path; the others of the bundle are not to blame. */
function restore(
  nar: ArrivingNar,
  chunk: ChunkRecord,
  { bytes, isOwn }: { readonly bytes: Buffer; readonly isOwn: boolean },
): void {
  const { restorer } = nar;
  if (nar.failure !== undefined || restorer === undefined) return;
  try {
    const { patches } = chunk;
    // What is held stays as it is stored: another chunk of the batch may count on it, too.
    const raw = isOwn || patches.length === 0 ? bytes : Buffer.from(bytes);
    if (!isOwn && patches.length > 0) checkPlaces(chunk, raw);
    for (const { offset, literal } of patches) literal.copy(raw, offset);
    restorer.write(chunk, raw);
    if (restorer.isComplete) nar.restored = restorer.finish();
  } catch (error) {
    nar.failure = asSlipwayError(error);
  }
}

/** A chunk that is held was proven with places of its own; they must be those that this upload fills. */
function checkPlaces({ hash, patches }: ChunkRecord, raw: Buffer): void {
  const places = patches.map(({ offset, literal }) => ({ offset, length: literal.length }));
  for (const { offset, length } of places) raw.fill(FILLER, offset, offset + length);
  if (patchedChunkHash(raw, places).equals(hash)) return;
  throw new SlipwayError('nar_invalid', 'The NAR is refused: it fills places that its chunk does not have.');
}
