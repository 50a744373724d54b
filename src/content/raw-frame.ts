// A zstd frame that does not compress (RFC 8878, 3.1.1): a header and raw blocks. Its length follows from the length of
// what it holds, so a part of a stored frame can be promised, and sent, as a frame of its own.
import type { Place } from './patched-frame.ts';

const MAGIC = 0xfd2fb528;
/** One segment, its size in four bytes; no checksum, no dictionary. */
const DESCRIPTOR = 0xa0;
const HEADER_BYTES = 9;
const BLOCK_HEADER_BYTES = 3;
/** No zstd block decodes to more. */
const LARGEST_BLOCK = 128 * 1024;

/** Length of the frame that rawFrame() makes of so many bytes without places. */
export function rawFrameLength(bytes: number): number {
  return HEADER_BYTES + bytes + BLOCK_HEADER_BYTES * Math.max(1, Math.ceil(bytes / LARGEST_BLOCK));
}

/** The frame of `bytes`; each of `places` becomes a block of its own. */
export function rawFrame(bytes: Buffer, places: readonly Place[] = []): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt8(DESCRIPTOR, 4);
  header.writeUInt32LE(bytes.length, 5);
  const blocks = planBlocks(bytes.length, places);
  const parts: Buffer[] = [header];
  for (const [n, { start, end }] of blocks.entries()) {
    const last = n === blocks.length - 1;
    parts.push(blockHeader(end - start, last), bytes.subarray(start, end));
  }
  return Buffer.concat(parts);
}

interface Block {
  readonly start: number;
  readonly end: number;
}

function planBlocks(length: number, places: readonly Place[]): Block[] {
  const blocks: Block[] = [];
  let start = 0;
  const cutTo = (end: number): void => {
    for (; start < end; start = Math.min(end, start + LARGEST_BLOCK))
      blocks.push({ start, end: Math.min(end, start + LARGEST_BLOCK) });
  };
  for (const place of places) {
    cutTo(place.offset);
    cutTo(place.offset + place.length);
  }
  cutTo(length);
  return blocks.length > 0 ? blocks : [{ start: 0, end: 0 }];
}

function blockHeader(length: number, last: boolean): Buffer {
  const header = Buffer.alloc(BLOCK_HEADER_BYTES);
  header.writeUIntLE((length << 3) | (last ? 1 : 0), 0, BLOCK_HEADER_BYTES);
  return header;
}
