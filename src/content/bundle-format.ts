// The body of an upload by Slipway's own protocol, version 2: a magic, then records, each a type, a length and a payload.
// A bundle carries NARs as chunks: those that the server lacks in frames, the others by name. docs/FORMATS.md.
import { SlipwayError } from '../util/errors.ts';
import { MAX_CHUNK, MIN_CHUNK } from './chunker.ts';
import { FRAME_BYTES } from './frame-codec.ts';
import { MOST_PLACES, SHORTEST_PLACE } from './patched-frame.ts';
import { formatVarint, type Patch } from './recipe.ts';
import { LARGEST_FRAME } from './verify-frame.ts';

export const BUNDLE_MAGIC: Buffer = Buffer.from('SWU2');
/** In which a chunk had its own frame. */
const FIRST_MAGIC = Buffer.from('SWU1');
/** Most bytes of a bundle: what proxies and load balancers let through. */
export const LARGEST_BUNDLE = 32 * 1024 * 1024 - 1;
/** Most paths of a bundle: they are published in one transaction. */
export const MOST_PATHS_A_BUNDLE = 4096;

const HEADER_BYTES = 5;
const HASH_BYTES = 32;
/** Longer than the longest name in a store, and than a build-id. */
const LONGEST_LITERAL = 256;
const LARGEST_NARINFO = 1024 * 1024;
const LARGEST_CHUNK_RECORD = HASH_BYTES + 20 + MOST_PLACES * (LONGEST_LITERAL + 20);
const MOST_CHUNKS_A_FRAME = FRAME_BYTES / MIN_CHUNK;

const TYPE = { begin: 1, resume: 2, chunk: 3, path: 4, frame: 5 } as const;

/** `begin`: the chunks that follow make the content `hash` from its start. */
export interface BeginRecord {
  readonly kind: 'begin';
  readonly hash: Buffer;
  readonly size: number;
}

/** `resume`: they go on with a content of which an earlier bundle brought the first `chunks`. */
export interface ResumeRecord {
  readonly kind: 'resume';
  readonly hash: Buffer;
  readonly chunks: number;
}

/** `chunk`: the next chunk of the content, which the server is believed to hold, or which comes in a frame. */
export interface ChunkRecord {
  readonly kind: 'chunk';
  readonly hash: Buffer;
  readonly rawLength: number;
  readonly patches: readonly Patch[];
}

/** `frame`: the next chunks of the content, and the frame that decodes to them. */
export interface FrameRecord {
  readonly kind: 'frame';
  readonly chunks: readonly ChunkRecord[];
  readonly frame: Buffer;
}

/** `path`: publishes a path whose NAR is a content that was brought before, or that the cache holds. */
export interface PathRecord {
  readonly kind: 'path';
  readonly narInfo: string;
}

export type BundleRecord = BeginRecord | ResumeRecord | ChunkRecord | FrameRecord | PathRecord;

/** Pieces to be sent one after another. */
export function formatRecord(record: BundleRecord): Buffer[] {
  switch (record.kind) {
    case 'begin':
      return framed(TYPE.begin, [record.hash, formatVarint(record.size)]);
    case 'resume':
      return framed(TYPE.resume, [record.hash, formatVarint(record.chunks)]);
    case 'path':
      return framed(TYPE.path, [Buffer.from(record.narInfo)]);
    case 'frame':
      return [
        ...framed(TYPE.frame, [formatVarint(record.chunks.length), record.frame]),
        ...record.chunks.flatMap(formatRecord),
      ];
    default: {
      const fields = [record.hash, formatVarint(record.rawLength), ...formatPatches(record.patches)];
      return framed(TYPE.chunk, [Buffer.concat(fields)]);
    }
  }
}

function framed(type: number, payload: readonly Buffer[]): Buffer[] {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt8(type, 0);
  header.writeUInt32LE(
    payload.reduce((sum, { length }) => sum + length, 0),
    1,
  );
  return [header, ...payload];
}

function formatPatches(patches: readonly Patch[]): Buffer[] {
  const parts = [formatVarint(patches.length)];
  let end = 0;
  for (const { offset, literal } of patches) {
    parts.push(formatVarint(offset - end), formatVarint(literal.length), literal);
    end = offset + literal.length;
  }
  return parts;
}

/** Memory of that length for a frame that came in pieces. */
export type Allocate = (length: number) => Buffer;

/** The records of a bundle as it arrives; memory is bounded by the largest record. Anything else is `invalid`. */
export async function* readRecords(
  body: AsyncIterable<Buffer>,
  allocate: Allocate = (length) => Buffer.allocUnsafeSlow(length),
): AsyncGenerator<BundleRecord> {
  const bytes = new ByteQueue(body, allocate);
  try {
    const magic = await bytes.take(BUNDLE_MAGIC.length);
    if (magic?.equals(FIRST_MAGIC) === true) throw outdated();
    if (magic?.equals(BUNDLE_MAGIC) !== true) throw broken('it does not begin as one');
    for (let record = await readRecord(bytes); record; record = await readRecord(bytes))
      yield record.kind === 'frame-head' ? await readFrame(bytes, record) : record;
  } finally {
    await bytes.close();
  }
}

/** A frame record before the chunks that it holds are read. */
interface FrameHead {
  readonly kind: 'frame-head';
  readonly count: number;
  readonly frame: Buffer;
}

type SingleRecord = Exclude<BundleRecord, FrameRecord> | FrameHead;

async function readRecord(bytes: ByteQueue): Promise<SingleRecord | undefined> {
  const header = await bytes.take(HEADER_BYTES);
  if (header === undefined) return undefined;
  const type = header.readUInt8(0);
  const length = header.readUInt32LE(1);
  if (length > largestOf(type)) throw broken('a record is too long');
  const payload = length === 0 ? Buffer.alloc(0) : await bytes.take(length);
  if (payload === undefined) throw broken('it ends within a record');
  return parseRecord(type, payload);
}

async function readFrame(bytes: ByteQueue, { count, frame }: FrameHead): Promise<FrameRecord> {
  const chunks: ChunkRecord[] = [];
  let rawLength = 0;
  while (chunks.length < count) {
    const record = await readRecord(bytes);
    if (record?.kind !== 'chunk') throw broken('a frame lacks one of its chunks');
    rawLength += record.rawLength;
    if (rawLength > FRAME_BYTES) throw broken('a frame has more bytes than one may have');
    chunks.push(record);
  }
  return { kind: 'frame', chunks, frame };
}

function largestOf(type: number): number {
  switch (type) {
    case TYPE.begin:
    case TYPE.resume:
      return HASH_BYTES + 8;
    case TYPE.chunk:
      return LARGEST_CHUNK_RECORD;
    case TYPE.frame:
      return LARGEST_FRAME + 8;
    case TYPE.path:
      return LARGEST_NARINFO;
    default:
      throw broken('it holds a record of an unknown type');
  }
}

function parseRecord(type: number, payload: Buffer): SingleRecord {
  if (type === TYPE.path) return { kind: 'path', narInfo: payload.toString('utf8') };
  const fields = new Fields(payload);
  if (type === TYPE.frame) return parseFrameHead(fields);
  const hash = fields.take(HASH_BYTES);
  if (type === TYPE.chunk) return parseChunk(hash, fields);
  const number = fields.varint();
  if (fields.rest().length > 0) throw broken('a record has the wrong length');
  return type === TYPE.begin
    ? { kind: 'begin', hash, size: number }
    : { kind: 'resume', hash, chunks: number };
}

function parseFrameHead(fields: Fields): FrameHead {
  const count = fields.varint();
  if (count < 1 || count > MOST_CHUNKS_A_FRAME)
    throw broken('a frame has a number of chunks that none may have');
  return { kind: 'frame-head', count, frame: fields.rest() };
}

function parseChunk(hash: Buffer, fields: Fields): ChunkRecord {
  const rawLength = fields.varint();
  if (rawLength < 1 || rawLength > MAX_CHUNK) throw broken('a chunk has a length that none may have');
  const count = fields.varint();
  if (count > MOST_PLACES) throw broken('a chunk has too many places');
  const patches: Patch[] = [];
  let end = 0;
  while (patches.length < count) {
    const offset = end + fields.varint();
    const length = fields.varint();
    end = offset + length;
    if (length < SHORTEST_PLACE || length > LONGEST_LITERAL || end > rawLength)
      throw broken('a chunk has a place that none may have');
    patches.push({ offset, literal: fields.take(length) });
  }
  if (fields.rest().length > 0) throw broken('a record has the wrong length');
  return { kind: 'chunk', hash, rawLength, patches };
}

/** Whether a content may have a chunk of this length: tiny ones would cost more to note than to store. */
export function isChunkLength(rawLength: number, isLast: boolean): boolean {
  return rawLength <= MAX_CHUNK && (isLast || rawLength >= MIN_CHUNK);
}

class Fields {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  take(length: number): Buffer {
    const taken = this.#bytes.subarray(this.#at, this.#at + length);
    if (taken.length !== length) throw broken('a record is too short');
    this.#at += length;
    return taken;
  }

  varint(): number {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 49; scale *= 0x80) {
      const byte = this.take(1)[0] ?? 0;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80 && value <= Number.MAX_SAFE_INTEGER) return value;
    }
    throw broken('a number is too large');
  }

  rest(): Buffer {
    return this.#bytes.subarray(this.#at);
  }
}

/** What is shorter comes out of Node's own pool. */
const LEAST_ALLOCATED = 4096;

/** Takes a stream apart into runs of the wanted length. */
class ByteQueue {
  readonly #source: AsyncIterator<Buffer>;
  readonly #allocate: Allocate;
  #held: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Buffer>, allocate: Allocate) {
    this.#source = source[Symbol.asyncIterator]();
    this.#allocate = allocate;
  }

  /** `undefined` at the end of the stream; an end in between is `invalid`. */
  async take(length: number): Promise<Buffer | undefined> {
    const parts: Buffer[] = [];
    let missing = length;
    while (missing > 0) {
      if (this.#held.length === 0) {
        const next = await this.#source.next();
        if (next.done === true) break;
        this.#held = next.value;
        continue;
      }
      const part = this.#held.subarray(0, missing);
      this.#held = this.#held.subarray(part.length);
      missing -= part.length;
      parts.push(part);
    }
    if (missing === length) return undefined;
    if (missing > 0) throw broken('it ends too early');
    const [first] = parts;
    return parts.length === 1 ? first : this.#join(parts, length);
  }

  #join(parts: readonly Buffer[], length: number): Buffer {
    if (length < LEAST_ALLOCATED) return Buffer.concat(parts, length);
    const joined = this.#allocate(length);
    let at = 0;
    for (const part of parts) at += part.copy(joined, at);
    return joined;
  }

  async close(): Promise<void> {
    await this.#source.return?.();
  }
}

function outdated(): SlipwayError {
  return new SlipwayError(
    'invalid',
    'The upload is a bundle of an older Slipway, which this server does not take.',
    {
      next: 'Bring the client up to date.',
    },
  );
}

function broken(why: string): SlipwayError {
  return new SlipwayError('invalid', `The upload is not a bundle of Slipway's: ${why}.`);
}
