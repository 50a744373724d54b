// The bytes of a pack, version 1: a header, zstd frames one after another, an index. Header and index are skippable
// zstd frames (RFC 8878, 3.1.2), so a whole pack is itself a valid zstd stream. docs/FORMATS.md shows one by hand.
import { crc32 } from 'node:zlib';
import { SlipwayError } from '../util/errors.ts';

export const PACK_VERSION = 1;
const FRAME_HEADER_BYTES = 8;

/** skippable magic 0, payload length 8, `SLWPACK`, version. */
export const PACK_HEADER: Buffer = Buffer.concat([
  skippableHeader(0x184d2a50, 8),
  Buffer.from('SLWPACK'),
  Buffer.from([PACK_VERSION]),
]);

export const INDEX_MAGIC = 0x184d2a51;
const ENTRY_BYTES = 56;
const TRAILER_MAGIC = Buffer.from('SLWPEND1');
/** count (u32), CRC-32 of the entries (u32), magic (8). */
export const TRAILER_BYTES = 16;

/** What a frame holds: bytes of contents, or the recipe of one content. Readers skip kinds that they do not know. */
export const FRAME_KIND = { chunk: 1, recipe: 2 } as const;

export interface PackEntry {
  readonly kind: number;
  /** Chunk: SHA-256 of its bytes. Recipe: SHA-256 of the content that it describes. */
  readonly hash: Uint8Array;
  readonly offset: number;
  readonly frameLength: number;
  readonly rawLength: number;
  /** CRC-32 (IEEE) of the frame as stored. */
  readonly frameCrc: number;
}

/** The index frame that ends a pack. */
export function formatPackIndex(entries: readonly PackEntry[]): Buffer {
  const body = Buffer.concat(entries.map(formatEntry));
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(entries.length, 0);
  trailer.writeUInt32LE(crc32(body), 4);
  const payload = Buffer.concat([body, trailer, TRAILER_MAGIC]);
  return Buffer.concat([skippableHeader(INDEX_MAGIC, payload.length), payload]);
}

/** Number of entries, from a pack's last TRAILER_BYTES bytes. */
export function parsePackTrailer(trailer: Buffer): number {
  if (trailer.length !== TRAILER_BYTES || !trailer.subarray(8).equals(TRAILER_MAGIC))
    throw broken('it has no trailer');
  return trailer.readUInt32LE(0);
}

/** Length of the index frame of a pack with so many entries. */
export function packIndexLength(entries: number): number {
  return FRAME_HEADER_BYTES + entries * ENTRY_BYTES + TRAILER_BYTES;
}

/** Inverts formatPackIndex; `index` is the whole index frame. */
export function parsePackIndex(index: Buffer): PackEntry[] {
  if (index.length < FRAME_HEADER_BYTES + TRAILER_BYTES) throw broken('its index is cut off');
  const count = parsePackTrailer(index.subarray(-TRAILER_BYTES));
  const body = index.subarray(FRAME_HEADER_BYTES, -TRAILER_BYTES);
  if (index.readUInt32LE(0) !== INDEX_MAGIC || body.length !== count * ENTRY_BYTES)
    throw broken('its index has the wrong length');
  if (crc32(body) !== index.readUInt32LE(index.length - 12)) throw broken('its index has a wrong checksum');
  return Array.from({ length: count }, (_, n) =>
    parseEntry(body.subarray(n * ENTRY_BYTES, (n + 1) * ENTRY_BYTES)),
  );
}

function formatEntry(entry: PackEntry): Buffer {
  const bytes = Buffer.alloc(ENTRY_BYTES);
  bytes.set(entry.hash, 0);
  bytes.writeBigUInt64LE(BigInt(entry.offset), 32);
  bytes.writeUInt32LE(entry.frameLength, 40);
  bytes.writeUInt32LE(entry.rawLength, 44);
  bytes.writeUInt32LE(entry.frameCrc, 48);
  bytes.writeUInt8(entry.kind, 52);
  return bytes;
}

function parseEntry(bytes: Buffer): PackEntry {
  return {
    hash: Uint8Array.from(bytes.subarray(0, 32)),
    offset: Number(bytes.readBigUInt64LE(32)),
    frameLength: bytes.readUInt32LE(40),
    rawLength: bytes.readUInt32LE(44),
    frameCrc: bytes.readUInt32LE(48),
    kind: bytes.readUInt8(52),
  };
}

function skippableHeader(magic: number, length: number): Buffer {
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES);
  bytes.writeUInt32LE(magic, 0);
  bytes.writeUInt32LE(length, 4);
  return bytes;
}

function broken(how: string): SlipwayError {
  return new SlipwayError('internal', `A pack is damaged: ${how}.`);
}
