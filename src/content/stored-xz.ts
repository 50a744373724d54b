// Plain bytes as an .xz file without compressing them: LZMA2 has chunks that hold bytes as they are (tukaani.org/xz/
// xz-file-format.txt; LZMA2: liblzma's lzma2_decoder.c). Nix remembers for 30 days that it uploaded a NAR as `.nar.xz`, and
// newer ones then read nothing but xz there. Length and position of every byte follow from the length of the content, so
// such a file is never stored, and ranges of it cost nothing.
import { crc32 } from 'node:zlib';

const CHUNK_BYTES = 65_536;
const CHUNK_HEADER_BYTES = 3;
const CHUNK_STRIDE = CHUNK_HEADER_BYTES + CHUNK_BYTES;
/** Each chunk stands for itself: "uncompressed, dictionary reset". The first one has to. */
const PLAIN_CHUNK = 0x01;
const END_OF_CHUNKS = Buffer.of(0);

/** No check: a NAR has its own hash, and CRCs would have to be known before the end. */
const STREAM_FLAGS = Buffer.of(0, 0);
const STREAM_HEADER = Buffer.concat([
  Buffer.from('fd377a585a00', 'hex'),
  STREAM_FLAGS,
  u32(crc32(STREAM_FLAGS)),
]);
/** 12 bytes long, one filter: LZMA2 (0x21) with one byte of properties, the smallest dictionary. */
const BLOCK_HEADER = withCrc(Buffer.of(2, 0, 0x21, 1, 0, 0, 0, 0));
const HEAD = Buffer.concat([STREAM_HEADER, BLOCK_HEADER]);

export interface Span {
  readonly start: number;
  /** Excluded. */
  readonly end: number;
}

export class StoredXz {
  readonly #rawLength: number;
  readonly #tailAt: number;
  readonly #tail: Buffer;

  constructor(rawLength: number) {
    this.#rawLength = rawLength;
    const chunks = rawLength + Math.ceil(rawLength / CHUNK_BYTES) * CHUNK_HEADER_BYTES;
    this.#tailAt = HEAD.length + chunks;
    this.#tail = tailOf(rawLength, BLOCK_HEADER.length + chunks + END_OF_CHUNKS.length);
  }

  /** Bytes of the whole file. */
  get length(): number {
    return this.#tailAt + this.#tail.length;
  }

  /** Which bytes of the content `span` of the file holds. */
  rawSpan({ start, end }: Span): Span {
    return { start: this.#rawPosition(start), end: this.#rawPosition(end) };
  }

  /** `span` of the file; `raw` yields exactly the bytes of `rawSpan(span)`. */
  async *wrap({ start, end }: Span, raw: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
    let at = start;
    for await (const piece of raw) {
      for (let used = 0; used < piece.length;) {
        const frame = this.#frameAt(at);
        if (frame !== undefined) {
          yield frame;
          at += frame.length;
        }
        const room = CHUNK_STRIDE - ((at - HEAD.length) % CHUNK_STRIDE);
        const bytes = piece.subarray(used, used + room);
        yield bytes;
        used += bytes.length;
        at += bytes.length;
      }
    }
    for (let frame = this.#frameAt(at); at < end && frame !== undefined; frame = this.#frameAt(at)) {
      yield frame.subarray(0, end - at);
      at += frame.length;
    }
  }

  /** What stands around the content at `at`, up to the content's next byte; `undefined` inside of the content. */
  #frameAt(at: number): Buffer | undefined {
    if (at < HEAD.length) return Buffer.concat([HEAD.subarray(at), this.#chunkHeader(0)]);
    if (at >= this.#tailAt) return at < this.length ? this.#tail.subarray(at - this.#tailAt) : undefined;
    const inChunk = (at - HEAD.length) % CHUNK_STRIDE;
    if (inChunk >= CHUNK_HEADER_BYTES) return undefined;
    return this.#chunkHeader(Math.floor((at - HEAD.length) / CHUNK_STRIDE)).subarray(inChunk);
  }

  /** Empty where no chunk is. */
  #chunkHeader(index: number): Buffer {
    const size = Math.min(CHUNK_BYTES, this.#rawLength - index * CHUNK_BYTES);
    return size <= 0 ? Buffer.alloc(0) : Buffer.of(PLAIN_CHUNK, (size - 1) >> 8, (size - 1) & 0xff);
  }

  #rawPosition(at: number): number {
    const inChunks = Math.min(Math.max(0, at - HEAD.length), this.#tailAt - HEAD.length);
    const whole = Math.floor(inChunks / CHUNK_STRIDE);
    const rest = Math.max(0, (inChunks % CHUNK_STRIDE) - CHUNK_HEADER_BYTES);
    return Math.min(this.#rawLength, whole * CHUNK_BYTES + rest);
  }
}

/** End of the chunks, padding, index of the one block, footer. */
function tailOf(rawLength: number, blockLength: number): Buffer {
  const index = withCrc(padded(Buffer.concat([Buffer.of(0, 1), varint(blockLength), varint(rawLength)])));
  const sized = Buffer.concat([u32(index.length / 4 - 1), STREAM_FLAGS]);
  const footer = Buffer.concat([u32(crc32(sized)), sized, Buffer.from('YZ')]);
  const padding = Buffer.alloc((4 - (blockLength % 4)) % 4);
  return Buffer.concat([END_OF_CHUNKS, padding, index, footer]);
}

function withCrc(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, u32(crc32(bytes))]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** Seven bits a byte, the lowest first, as in unsigned LEB128. */
function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}
