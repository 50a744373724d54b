// The bytes of a pack, version 2: a header, zstd frames one after another, an index. Header and index are skippable
// zstd frames (RFC 8878, 3.1.2), so a whole pack is itself a valid zstd stream. docs/FORMATS.md shows one by hand.
import { crc32 } from 'node:zlib';
import { SlipwayError } from '../util/errors.ts';

export const PACK_VERSION = 2;
const FRAME_HEADER_BYTES = 8;

/** skippable magic 0, payload length 8, `SLWPACK`, version. */
export const PACK_HEADER: Buffer = Buffer.concat([
  skippableHeader(0x184d2a50, 8),
  Buffer.from('SLWPACK'),
  Buffer.from([PACK_VERSION]),
]);

export const INDEX_MAGIC = 0x184d2a51;
const ENTRY_BYTES = 56;
const SETTLED = 1;
const TRAILER_MAGIC = Buffer.from('SLWPEND2');
/** Of packs in which each frame holds one thing; they read the same. */
const FIRST_TRAILER_MAGIC = Buffer.from('SLWPEND1');
/** count (u32), CRC-32 of the entries (u32), magic (8). */
export const TRAILER_BYTES = 16;

/** What a frame holds: bytes of contents, or the recipe of one content. Readers skip kinds that they do not know. */
export const FRAME_KIND = { chunk: 1, recipe: 2 } as const;

/** What a frame decodes to: chunks one after another, or one recipe. */
export interface FrameContents {
  readonly kind: number;
  readonly parts: readonly FramePart[];
  /** It was compressed with all effort, and need not be again. */
  readonly settled?: boolean;
}

export interface FramePart {
  /** Chunk: its name. Recipe: SHA-256 of the content that it describes. */
  readonly hash: Uint8Array;
  readonly rawLength: number;
}

/** A frame in a pack. */
export interface PackedFrame extends FrameContents {
  readonly offset: number;
  readonly length: number;
  /** CRC-32 (IEEE) of the frame as stored. */
  readonly crc: number;
}

export function rawLengthOf({ parts }: FrameContents): number {
  return parts.reduce((sum, { rawLength }) => sum + rawLength, 0);
}

/** The index frame that ends a pack: an entry for each part, those of one frame side by side and in its order. */
export function formatPackIndex(frames: readonly PackedFrame[]): Buffer {
  const entries = frames.flatMap((frame) => frame.parts.map((part) => formatEntry(frame, part)));
  const body = Buffer.concat(entries);
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(entries.length, 0);
  trailer.writeUInt32LE(crc32(body), 4);
  const payload = Buffer.concat([body, trailer, TRAILER_MAGIC]);
  return Buffer.concat([skippableHeader(INDEX_MAGIC, payload.length), payload]);
}

/** Number of entries, from a pack's last TRAILER_BYTES bytes. */
export function parsePackTrailer(trailer: Buffer): number {
  const magic = trailer.subarray(8);
  if (trailer.length !== TRAILER_BYTES || !(magic.equals(TRAILER_MAGIC) || magic.equals(FIRST_TRAILER_MAGIC)))
    throw broken('it has no trailer');
  return trailer.readUInt32LE(0);
}

/** Length of the index frame of a pack with so many entries. */
export function packIndexLength(entries: number): number {
  return FRAME_HEADER_BYTES + entries * ENTRY_BYTES + TRAILER_BYTES;
}

/** Inverts formatPackIndex; `index` is the whole index frame. */
export function parsePackIndex(index: Buffer): PackedFrame[] {
  if (index.length < FRAME_HEADER_BYTES + TRAILER_BYTES) throw broken('its index is cut off');
  const count = parsePackTrailer(index.subarray(-TRAILER_BYTES));
  const body = index.subarray(FRAME_HEADER_BYTES, -TRAILER_BYTES);
  if (index.readUInt32LE(0) !== INDEX_MAGIC || body.length !== count * ENTRY_BYTES)
    throw broken('its index has the wrong length');
  if (crc32(body) !== index.readUInt32LE(index.length - 12)) throw broken('its index has a wrong checksum');
  const frames: (PackedFrame & { readonly parts: FramePart[] })[] = [];
  for (let at = 0; at < body.length; at += ENTRY_BYTES) {
    const { part, ...frame } = parseEntry(body.subarray(at, at + ENTRY_BYTES));
    const last = frames.at(-1);
    if (last !== undefined && last.offset === frame.offset) {
      if (!isSameFrame(last, frame)) throw broken('its index contradicts itself');
      last.parts.push(part);
    } else frames.push({ ...frame, parts: [part] });
  }
  return frames;
}

function isSameFrame(one: Omit<PackedFrame, 'parts'>, other: Omit<PackedFrame, 'parts'>): boolean {
  return (
    one.length === other.length &&
    one.crc === other.crc &&
    one.kind === other.kind &&
    one.settled === other.settled
  );
}

function formatEntry({ offset, length, crc, kind, settled }: PackedFrame, part: FramePart): Buffer {
  const bytes = Buffer.alloc(ENTRY_BYTES);
  bytes.set(part.hash, 0);
  bytes.writeBigUInt64LE(BigInt(offset), 32);
  bytes.writeUInt32LE(length, 40);
  bytes.writeUInt32LE(part.rawLength, 44);
  bytes.writeUInt32LE(crc, 48);
  bytes.writeUInt8(kind, 52);
  bytes.writeUInt8(settled === true ? SETTLED : 0, 53);
  return bytes;
}

function parseEntry(bytes: Buffer): Omit<PackedFrame, 'parts'> & { readonly part: FramePart } {
  return {
    offset: Number(bytes.readBigUInt64LE(32)),
    length: bytes.readUInt32LE(40),
    crc: bytes.readUInt32LE(48),
    kind: bytes.readUInt8(52),
    ...(bytes.readUInt8(53) === SETTLED && { settled: true }),
    part: { hash: Uint8Array.from(bytes.subarray(0, 32)), rawLength: bytes.readUInt32LE(44) },
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
