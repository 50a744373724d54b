// Bytes with places to be filled in, as ONE zstd frame that can be served after filling them in, without any codec.
// The trick: each place is a raw block of its own (RFC 8878, 3.1.1.2), which holds a marker in the stored frame. No match
// of another block reaches into a marker, since nothing resembles it; that is not hoped for but proven for each frame:
// decoded with other bytes in every place, the frame must differ there and nowhere else. Filling in is copying 20 to 250
// bytes over each marker; the frame's length does not change.
import { createHash } from 'node:crypto';
import { constants, createZstdCompress, type ZstdCompress } from 'node:zlib';
import { Semaphore } from '../util/concurrency.ts';
import { SlipwayError } from '../util/errors.ts';
import {
  decodeFrame,
  frameBound,
  frameBytes,
  LARGEST_FRAME_BYTES,
  zstdParameters,
  type Effort,
} from './frame-codec.ts';

/** A place in a chunk, or in all that a frame holds. */
export interface Place {
  /** From the start of that. */
  readonly offset: number;
  readonly length: number;
}

/** A chunk with more places than this is stored as it is: every place costs some 10 bytes and two blocks. */
export const MOST_PLACES = 512;
/** Chunks with more places together do not share a frame. */
export const MOST_PLACES_A_FRAME = 1024;
/** Shorter blocks might be compressed, or found elsewhere. */
export const SHORTEST_PLACE = 12;

const ENCODERS = 4;
const LONGEST_MARKER = 256;

/**
 * Encodes `raw`; its bytes at `places` do not matter, and are the markers afterwards. `undefined` when zstd has not
 * made the blocks that are needed.
 */
export async function encodePatchedFrame(
  raw: Buffer,
  places: readonly Place[],
  effort: Effort = 'usual',
): Promise<Buffer | undefined> {
  const frame = await turns.run(async () => {
    const encoder = idle[effort].pop() ?? newEncoder(effort);
    const encoded = await encodeWith(encoder, raw, places);
    idle[effort].push(encoder);
    return encoded;
  });
  return (await isPatchedFrame(frame, raw, places)) ? frame : undefined;
}

/** Copies `literals`, one for each place, over the markers of a stored frame, in place. A frame without them is `internal`. */
export function fillPlaces(frame: Buffer, literals: readonly Buffer[]): void {
  let next = 0;
  for (const block of rawBlocks(frame)) {
    const literal = literals[next];
    if (literal === undefined) return;
    if (block.length !== literal.length || !isMarker(frame, block, next)) continue;
    literal.copy(frame, block.start);
    next++;
  }
  if (next < literals.length) throw new SlipwayError('internal', 'A stored frame lacks a place to fill in.');
}

/** The places of a stored frame, given what it decodes to. */
export function findPlaces(frame: Buffer, decoded: Buffer): Place[] {
  const places: Place[] = [];
  let end = 0;
  for (const block of rawBlocks(frame)) {
    if (!isMarker(frame, block, places.length)) continue;
    const offset = decoded.indexOf(markerOf(places.length, block.length), end);
    if (offset === -1) return [];
    places.push({ offset, length: block.length });
    end = offset + block.length;
  }
  return places;
}

/** The bytes of the marker in place `n` of a frame: a piece of a fixed stream, so that a pack explains itself. */
export function markerOf(n: number, length: number): Buffer {
  let stream = MARKERS.get(n);
  if (stream === undefined) {
    const blocks: Buffer[] = [];
    for (let part = 0; part * 32 < LONGEST_MARKER; part++)
      blocks.push(createHash('sha256').update(`slipway marker 1 ${n} ${part}`).digest());
    stream = Buffer.concat(blocks);
    MARKERS.set(n, stream);
  }
  return stream.subarray(0, length);
}

const MARKERS = new Map<number, Buffer>();

const idle: Readonly<Record<Effort, ZstdCompress[]>> = { quick: [], usual: [], thorough: [] };
const turns = new Semaphore(ENCODERS);

/** Every write ends a block; a flush with ZSTD_e_end ends the frame. See frame-codec.ts on keeping contexts. */
function newEncoder(effort: Effort): ZstdCompress {
  return createZstdCompress({
    flush: constants.ZSTD_e_flush,
    chunkSize: frameBound(frameBytes(effort)) + MOST_PLACES * 64,
    params: zstdParameters(effort),
  });
}

async function encodeWith(encoder: ZstdCompress, raw: Buffer, places: readonly Place[]): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const collect = (piece: Buffer): void => void pieces.push(piece);
  encoder.on('data', collect);
  try {
    let at = 0;
    for (const [n, { offset, length }] of places.entries()) {
      if (offset > at) encoder.write(raw.subarray(at, offset));
      encoder.write(markerOf(n, length));
      at = offset + length;
    }
    if (at < raw.length) encoder.write(raw.subarray(at));
    await new Promise<void>((resolve, reject) => {
      encoder.once('error', reject);
      encoder.flush(constants.ZSTD_e_end, () => {
        encoder.off('error', reject);
        resolve();
      });
    });
  } finally {
    encoder.off('data', collect);
  }
  return Buffer.concat(pieces);
}

/**
 * Whether the frame depends on its places' bytes in those places alone: every one of them is inverted for the proof. And
 * whether the places can be found again, which bytes that look like markers could prevent. Puts markers into `raw`.
 */
export async function isPatchedFrame(frame: Buffer, raw: Buffer, places: readonly Place[]): Promise<boolean> {
  const markers = places.map(({ length }, n) => markerOf(n, length));
  for (const [n, { offset }] of places.entries()) markers[n]?.copy(raw, offset);
  if (!isSame(findPlaces(frame, raw), places)) return false;
  const inverted = markers.map((marker) => Buffer.from(marker.map((byte) => byte ^ 0xff)));
  const filled = Buffer.from(frame);
  fillPlaces(filled, inverted);
  const scratch = scratches.pop() ?? Buffer.allocUnsafeSlow(LARGEST_FRAME_BYTES);
  try {
    const decoded = await decodeFrame(filled, raw.length, scratch);
    return isSameBut(decoded, raw, { places, literals: inverted });
  } finally {
    if (scratches.length < ENCODERS) scratches.push(scratch);
  }
}

/** What frames are decoded into for the proof, to be used again. */
const scratches: Buffer[] = [];

/** Whether `bytes` are `raw` with the literals in its places. */
function isSameBut(
  bytes: Buffer,
  raw: Buffer,
  { places, literals }: { readonly places: readonly Place[]; readonly literals: readonly Buffer[] },
): boolean {
  let at = 0;
  for (const [n, { offset, length }] of places.entries()) {
    if (raw.compare(bytes, at, offset, at, offset) !== 0) return false;
    at = offset + length;
    if (literals[n]?.equals(bytes.subarray(offset, at)) !== true) return false;
  }
  return raw.compare(bytes, at, raw.length, at, raw.length) === 0;
}

function isSame(found: readonly Place[], places: readonly Place[]): boolean {
  return (
    found.length === places.length &&
    places.every(({ offset, length }, n) => found[n]?.offset === offset && found[n].length === length)
  );
}

interface RawBlock {
  readonly start: number;
  readonly length: number;
}

const RAW = 0;
const RUN_LENGTH = 1;

/** The raw blocks of a frame that this file has written: a header with a window, no dictionary, no checksum. */
function* rawBlocks(frame: Buffer): Generator<RawBlock> {
  let at = headerLength(frame);
  for (let last = false; !last && at + 3 <= frame.length;) {
    const header = frame.readUIntLE(at, 3);
    last = (header & 1) === 1;
    const type = (header >> 1) & 3;
    const length = header >> 3;
    at += 3;
    if (type === RAW) yield { start: at, length };
    at += type === RUN_LENGTH ? 1 : length;
  }
}

function headerLength(frame: Buffer): number {
  const descriptor = frame[4] ?? 0;
  const single = (descriptor & 0x20) !== 0;
  const sizeBytes = [single ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  return 5 + (single ? 0 : 1) + ([0, 1, 2, 4][descriptor & 3] ?? 0) + sizeBytes;
}

function isMarker(frame: Buffer, block: RawBlock, n: number): boolean {
  if (block.length < SHORTEST_PLACE || block.length > LONGEST_MARKER) return false;
  return markerOf(n, block.length).equals(frame.subarray(block.start, block.start + block.length));
}
