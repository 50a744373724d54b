// Frames that somebody else has made: decoded within limits and proven to be the chunks that they are said to be, before
// anything is stored or served. What passes here is as good as a frame of our own, in every NAR that it is part of.
import { SlipwayError } from '../util/errors.ts';
import { patchedChunkHash, plainChunkHash } from './chunk-identity.ts';
import { decodeFrame, FRAME_BYTES } from './frame-codec.ts';
import { FILLER } from './normaliser.ts';
import { isPatchedFrame, MOST_PLACES, MOST_PLACES_A_FRAME, type Place } from './patched-frame.ts';
import { parseSingleFrame } from './zstd-frames.ts';

/** Readers keep as much in memory. Our own encoder asks for as much as a frame has. */
const LARGEST_WINDOW = 8 * 1024 * 1024;
/** zstd's bound for bytes that do not compress, and what places add to it. */
export const LARGEST_FRAME: number = FRAME_BYTES + (FRAME_BYTES >> 8) + 512 + MOST_PLACES_A_FRAME * 64;

export interface NamedChunk {
  readonly hash: Buffer;
  readonly rawLength: number;
  /** In order, none over another. */
  readonly places: readonly Place[];
}

/**
 * The bytes of each chunk, filler in its places, as views on what the frame decodes to, in `target` when there is one.
 * `invalid` for anything but one plain zstd frame of exactly these chunks in this order. A frame with trailing bytes is
 * refused, because readers would decode these too.
 */
export async function verifyFrame(
  frame: Buffer,
  chunks: readonly NamedChunk[],
  target?: Buffer,
): Promise<Buffer[]> {
  const rawLength = chunks.reduce((sum, chunk) => sum + chunk.rawLength, 0);
  if (!isPlainFrame(frame, rawLength)) throw refused('it is not one plain zstd frame of that length');
  const raw = await decodeFrame(frame, rawLength, target).catch((cause: unknown) => {
    throw refused('it cannot be decoded', cause);
  });
  await checkPlaces(frame, raw, chunks);
  let start = 0;
  return chunks.map((chunk) => {
    const bytes = raw.subarray(start, (start += chunk.rawLength));
    if (!isNamed(bytes, chunk)) throw refused('its bytes have another hash');
    return bytes;
  });
}

/** Its places are those of its chunks, and nothing else depends on them. */
async function checkPlaces(frame: Buffer, raw: Buffer, chunks: readonly NamedChunk[]): Promise<void> {
  const places: Place[] = [];
  let start = 0;
  for (const chunk of chunks) {
    for (const { offset, length } of chunk.places) places.push({ offset: start + offset, length });
    start += chunk.rawLength;
  }
  if (places.length === 0) return;
  const most = chunks.length === 1 ? MOST_PLACES : MOST_PLACES_A_FRAME;
  if (places.length > most || !(await isPatchedFrame(frame, raw, places)))
    throw refused('it lacks the places that it is said to have');
}

function isNamed(bytes: Buffer, { hash, places }: NamedChunk): boolean {
  if (places.length === 0) return plainChunkHash(bytes).equals(hash);
  for (const { offset, length } of places) bytes.fill(FILLER, offset, offset + length);
  return patchedChunkHash(bytes, places).equals(hash);
}

/** No dictionary, which readers do not have; no checksum, which would not survive that places are filled in. */
function isPlainFrame(frame: Buffer, rawLength: number): boolean {
  if (frame.length > LARGEST_FRAME || rawLength > FRAME_BYTES) return false;
  const header = parseSingleFrame(frame);
  if (header === undefined || header.hasChecksum || header.hasDictionary) return false;
  return header.windowSize <= LARGEST_WINDOW && (header.contentSize ?? rawLength) === rawLength;
}

function refused(why: string, cause?: unknown): SlipwayError {
  return new SlipwayError('invalid', `A frame of the upload is refused: ${why}.`, { cause });
}
