// Finds where each frame of a zstd stream ends (RFC 8878, 3.1), without decompressing.
// Needed because zlib in Node 24 silently drops all but the first frame when several arrive in one buffer (nodejs#64741).
import { SlipwayError } from '../util/errors.ts';

const MAGIC = 0xfd2fb528;
const SKIPPABLE_MASK = 0xfffffff0;
const SKIPPABLE_MAGIC = 0x184d2a50;
const LONGEST_HEADER = 18;
/** What zstd itself accepts by default (--long=27): a frame that asks for more memory is refused. */
const LARGEST_WINDOW = 2 ** 27;

/** A piece of one frame. Skippable frames are dropped. */
export interface FramePart {
  readonly bytes: Buffer;
  readonly first: boolean;
  readonly last: boolean;
  /** Decompressed size if the frame's header states it. */
  readonly contentSize: number | undefined;
  /** Bytes that a decoder has to keep. */
  readonly windowSize: number;
}

type State = 'header' | 'block-header' | 'block' | 'checksum' | 'skippable';

/** Push parser. Parts of one frame come in order; `end()` throws `nar_invalid` when the last frame is cut off. */
export class ZstdFrameSplitter {
  #state: State = 'header';
  #need = 0; // bytes left of the current block, checksum or skippable frame
  #hasChecksum = false;
  #lastBlock = false;
  #first = true;
  #contentSize: number | undefined;
  #windowSize = 0;
  #held: Buffer = Buffer.alloc(0);

  *push(chunk: Buffer): Generator<FramePart> {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    this.#held = Buffer.alloc(0);
    let start = 0; // of what is not yet emitted
    let at = 0;
    for (;;) {
      const before = this.#state;
      const used = this.#step(bytes, at);
      if (used === undefined) break;
      at += used;
      if (this.#state === 'skippable' || before === 'skippable') start = at;
      else if (this.#state === 'header') {
        yield this.#part(bytes.subarray(start, at), true);
        start = at;
      }
      if (used === 0 && at >= bytes.length) break;
    }
    this.#held = bytes.subarray(at);
    if (at > start) yield this.#part(bytes.subarray(start, at), false);
  }

  end(): void {
    if (this.#state === 'header' && this.#held.length === 0) return;
    throw new SlipwayError('nar_invalid', 'The zstd stream ends in the middle of a frame.');
  }

  #part(bytes: Buffer, last: boolean): FramePart {
    const [contentSize, windowSize] = [this.#contentSize, this.#windowSize];
    const part = { bytes, first: this.#first, last, contentSize, windowSize };
    this.#first = last;
    return part;
  }

  /** Consumes at `at` and returns how much; `undefined` when more input is needed first. */
  #step(bytes: Buffer, at: number): number | undefined {
    const left = bytes.length - at;
    if (this.#state === 'header') return this.#header(bytes.subarray(at, at + LONGEST_HEADER));
    if (this.#state === 'block-header')
      return left < 3 ? undefined : this.#blockHeader(bytes.readUIntLE(at, 3));
    if (left === 0 && this.#need > 0) return undefined;
    const used = Math.min(left, this.#need);
    this.#need -= used;
    if (this.#need === 0) this.#finishRun();
    return used;
  }

  #finishRun(): void {
    if (this.#state === 'block' && !this.#lastBlock) this.#state = 'block-header';
    else if (this.#state === 'block' && this.#hasChecksum) {
      this.#state = 'checksum';
      this.#need = 4;
    } else this.#state = 'header';
  }

  #header(bytes: Buffer): number | undefined {
    if (bytes.length < 5) return undefined;
    const magic = bytes.readUInt32LE(0);
    if ((magic & SKIPPABLE_MASK) >>> 0 === SKIPPABLE_MAGIC) return this.#skippable(bytes);
    if (magic !== MAGIC) throw new SlipwayError('nar_invalid', 'The body is not a zstd stream.');
    const header = parseFrameHeader(bytes);
    if (header === undefined) return undefined;
    this.#hasChecksum = header.hasChecksum;
    this.#contentSize = header.contentSize;
    this.#windowSize = header.windowSize;
    this.#state = 'block-header';
    return header.length;
  }

  #skippable(bytes: Buffer): number | undefined {
    if (bytes.length < 8) return undefined;
    this.#need = bytes.readUInt32LE(4);
    this.#state = 'skippable';
    return 8;
  }

  #blockHeader(header: number): number {
    const type = (header >> 1) & 3;
    if (type === 3) throw new SlipwayError('nar_invalid', 'The zstd stream holds a reserved block type.');
    this.#lastBlock = (header & 1) === 1;
    this.#need = type === 1 ? 1 : header >> 3; // a run-length block stores one byte
    this.#state = 'block';
    return 3;
  }
}

interface FrameHeader {
  readonly length: number;
  readonly hasChecksum: boolean;
  readonly hasDictionary: boolean;
  readonly windowSize: number;
  readonly contentSize: number | undefined;
}

/** The header of `frame` when it is one whole frame and nothing else: whatever decodes it, and whatever stops at its end. */
export function parseSingleFrame(frame: Buffer): FrameHeader | undefined {
  if (frame.length < 9 || frame.readUInt32LE(0) !== MAGIC) return undefined;
  const header = parseFrameHeader(frame);
  if (header === undefined) return undefined;
  for (let at = header.length; at + 3 <= frame.length;) {
    const block = frame.readUIntLE(at, 3);
    const type = (block >> 1) & 3;
    if (type === 3) return undefined;
    at += 3 + (type === 1 ? 1 : block >> 3); // a run-length block stores one byte
    if ((block & 1) === 0) continue;
    return at + (header.hasChecksum ? 4 : 0) === frame.length ? header : undefined;
  }
  return undefined;
}

function parseFrameHeader(bytes: Buffer): FrameHeader | undefined {
  const descriptor = bytes.readUInt8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const sizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  const sizeAt = 5 + (singleSegment ? 0 : 1) + dictionaryBytes;
  const length = sizeAt + sizeBytes;
  if (bytes.length < length) return undefined;
  const contentSize = readContentSize(bytes, sizeAt, sizeBytes);
  const window = singleSegment ? (contentSize ?? 0) : windowSize(bytes.readUInt8(5));
  if (window > LARGEST_WINDOW)
    throw new SlipwayError('nar_invalid', 'The zstd stream asks for a window of more than 128 MiB.', {
      next: 'Compress without --long, or with --long=27 at most.',
    });
  const [hasChecksum, hasDictionary] = [(descriptor & 4) !== 0, dictionaryBytes > 0];
  return { length, hasChecksum, hasDictionary, windowSize: window, contentSize };
}

function windowSize(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

function readContentSize(bytes: Buffer, at: number, length: number): number | undefined {
  if (length === 0) return undefined;
  if (length === 8) return Number(bytes.readBigUInt64LE(at));
  return bytes.readUIntLE(at, length) + (length === 2 ? 256 : 0);
}
