// Takes the chunks of one bundle in: proves every frame that was sent, reads those that are counted on, restores the NARs,
// and puts what is new into packs. In memory are two batches of chunks and the frames of the bundle, which is small.
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import { asSlipwayError, SlipwayError } from '../../util/errors.ts';
import { mapBounded } from '../../util/concurrency.ts';
import type { BeginRecord, ChunkRecord, ResumeRecord } from '../../content/bundle-format.ts';
import { patchedChunkHash } from '../../content/chunk-identity.ts';
import { decodeFrame } from '../../content/frame-codec.ts';
import { FILLER } from '../../content/normaliser.ts';
import { FRAME_KIND } from '../../content/pack-format.ts';
import { verifyFrame } from '../../content/verify-frame.ts';
import { ChunkMemory } from './chunk-memory.ts';
import { absentChunk, chunkKey, findHeldFrames, findStoredChunks, type ChunkScope } from './held-chunks.ts';
import { NarRestorer, type RestoredNar } from './nar-restorer.ts';
import type { PackSink } from './pack-writer.ts';
import { readFrames } from './read-frames.ts';
import type { UploadSessions } from './upload-sessions.ts';

const BATCH_CHUNKS = 32;
const BATCH_BYTES = 4 * 1024 * 1024;
const CODERS = 4; // libuv's default pool size

export interface BundleIntakeParts {
  readonly database: Database;
  readonly blobs: BlobStore;
  readonly packs: PackSink;
  readonly sessions: UploadSessions;
  readonly scope: ChunkScope;
  readonly maxNarSize: number;
}

/** One NAR of the bundle, and how far it has come. */
export interface ArrivingNar {
  readonly hash: Buffer;
  /** `undefined`: what earlier bundles brought of it is not known here; its chunks are only stored. */
  readonly restorer: NarRestorer | undefined;
  /** The chunks that this bundle brought. */
  readonly sent: Map<string, Buffer>;
  restored?: RestoredNar;
  failure?: SlipwayError;
}

interface ArrivingChunk {
  readonly record: ChunkRecord;
  readonly nar: ArrivingNar;
}

export class BundleIntake implements AsyncDisposable {
  readonly nars: ArrivingNar[] = [];
  readonly #parts: BundleIntakeParts;
  /** Frames of this bundle: later chunks of it may count on them, although they are not durable yet. */
  readonly #frames = new Map<string, ChunkRecord>();
  #batch: ArrivingChunk[] = [];
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
    this.nars.push({ hash: Buffer.from(hash), restorer: new NarRestorer(hash, size), sent: new Map() });
  }

  resume({ hash, chunks }: ResumeRecord): void {
    const restorer = this.#parts.sessions.take(this.#parts.scope, hash, chunks);
    this.nars.push({ hash: Buffer.from(hash), restorer, sent: new Map() });
  }

  /** Waits while two batches are worked on. */
  async add(record: ChunkRecord): Promise<void> {
    const nar = this.nars.at(-1);
    if (nar === undefined)
      throw new SlipwayError('invalid', 'The upload has a chunk that belongs to no NAR.');
    this.#batch.push({ record, nar });
    this.#batchBytes += record.frame.length;
    if (this.#batch.length >= BATCH_CHUNKS || this.#batchBytes >= BATCH_BYTES) await this.#flush();
  }

  /** Everything that was added is in packs afterwards, and every NAR that is whole is proven or has failed. */
  async finish(): Promise<void> {
    await this.#flush();
    await this.#working;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#working.catch(() => undefined); // whoever added has heard of it
  }

  /** Proving begins at once and goes on beside the restoring of the batch before. */
  async #flush(): Promise<void> {
    const batch = this.#batch;
    this.#batch = [];
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

  /** The bytes of the chunks that were sent. */
  async #prove(batch: readonly ArrivingChunk[], memory: ChunkMemory): Promise<Map<string, Buffer>> {
    const sent = new Map<string, ChunkRecord>();
    for (const { record } of batch) {
      const key = chunkKey(record.hash);
      if (record.frame.length > 0 && !this.#frames.has(key)) sent.set(key, record);
    }
    const proven = new Map<string, Buffer>();
    await mapBounded([...sent], CODERS, async ([key, record]) => {
      const { hash, rawLength, patches } = record;
      const places = patches.map(({ offset, literal }) => ({ offset, length: literal.length }));
      proven.set(key, await verifyFrame(record.frame, { hash, rawLength, places }, memory.take(rawLength)));
    });
    return proven;
  }

  async #take(
    batch: readonly ArrivingChunk[],
    proven: Map<string, Buffer>,
    memory: ChunkMemory,
  ): Promise<void> {
    await this.#store(batch, proven);
    const bytes = await this.#readCountedOn(batch, proven, memory);
    for (const chunk of batch) {
      if (chunk.nar.restorer === undefined) continue;
      const raw = bytes.get(chunkKey(chunk.record.hash));
      if (raw?.length !== chunk.record.rawLength) throw absentChunk();
      this.#restore(chunk, raw);
    }
  }

  /** Appends what is stored nowhere yet. */
  async #store(batch: readonly ArrivingChunk[], proven: ReadonlyMap<string, Buffer>): Promise<void> {
    const fresh = new Map<string, ChunkRecord>();
    for (const { record, nar } of batch) {
      const key = chunkKey(record.hash);
      if (record.frame.length > 0) nar.sent.set(key, record.hash);
      if (proven.has(key) && record.frame.length > 0 && !this.#frames.has(key)) fresh.set(key, record);
    }
    const records = [...fresh.values()];
    const stored = await findStoredChunks(
      this.#parts.database,
      records.map(({ hash }) => hash),
    );
    for (const [key, record] of fresh) {
      this.#frames.set(key, record);
      if (stored.has(key)) continue;
      const { hash, rawLength } = record;
      await this.#parts.packs.append(record.frame, { kind: FRAME_KIND.chunk, hash, rawLength });
    }
  }

  /** The bytes of all chunks of the batch: of those that were sent in this bundle, and of those that are held. */
  async #readCountedOn(
    batch: readonly ArrivingChunk[],
    proven: Map<string, Buffer>,
    memory: ChunkMemory,
  ): Promise<Map<string, Buffer>> {
    const earlier = new Map<string, ChunkRecord>();
    const held = new Map<string, Buffer>();
    for (const { record, nar } of batch) {
      const key = chunkKey(record.hash);
      if (proven.has(key) || nar.restorer === undefined) continue;
      const sent = this.#frames.get(key);
      if (sent === undefined) held.set(key, record.hash);
      else earlier.set(key, sent);
    }
    const stored = await this.#readHeld([...held.values()], memory);
    await mapBounded([...earlier], CODERS, async ([key, { frame, rawLength }]) => {
      proven.set(key, await decodeFrame(frame, rawLength, memory.take(rawLength)));
    });
    for (const [key, bytes] of stored) proven.set(key, bytes);
    return proven;
  }

  async #readHeld(hashes: readonly Buffer[], memory: ChunkMemory): Promise<Map<string, Buffer>> {
    if (hashes.length === 0) return new Map();
    const held = await findHeldFrames(this.#parts.database, this.#parts.scope, hashes);
    const frames = await readFrames(this.#parts, [...held.values()]);
    const decoded = new Map<string, Buffer>();
    await mapBounded([...frames], CODERS, async ([key, frame]) => {
      const rawLength = held.get(key)?.rawLength ?? 0;
      decoded.set(key, await decodeFrame(frame, rawLength, memory.take(rawLength)));
    });
    return decoded;
  }

  /** What is wrong with one NAR is told with its path; the others of the bundle are not to blame. */
  #restore({ record, nar }: ArrivingChunk, raw: Buffer): void {
    const { restorer } = nar;
    if (nar.failure !== undefined || restorer === undefined) return;
    const key = chunkKey(record.hash);
    try {
      if (record.patches.length > 0 && this.#frames.get(key) !== record) checkPlaces(record, raw);
      for (const { offset, literal } of record.patches) literal.copy(raw, offset);
      restorer.write(record, raw);
      if (restorer.isComplete) nar.restored = restorer.finish();
    } catch (error) {
      nar.failure = asSlipwayError(error);
    }
  }
}

/** A chunk that is held was proven with places of its own; they must be those that this upload fills. */
function checkPlaces({ hash, patches }: ChunkRecord, raw: Buffer): void {
  const places = patches.map(({ offset, literal }) => ({ offset, length: literal.length }));
  for (const { offset, length } of places) raw.fill(FILLER, offset, offset + length);
  if (patchedChunkHash(raw, places).equals(hash)) return;
  throw new SlipwayError('nar_invalid', 'The NAR is refused: it fills places that its chunk does not have.');
}
