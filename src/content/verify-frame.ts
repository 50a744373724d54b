// Frames that somebody else has made: decoded within limits and proven to be the chunk that they are named, before
// anything is stored or served. What passes here is as good as a frame of our own, in every NAR that it is part of.
import { SlipwayError } from '../util/errors.ts';
import { patchedChunkHash, plainChunkHash } from './chunk-identity.ts';
import { MAX_CHUNK } from './chunker.ts';
import { decodeFrame } from './frame-codec.ts';
import { FILLER } from './normaliser.ts';
import { isPatchedFrame, MOST_PLACES, type Place } from './patched-frame.ts';
import { parseSingleFrame } from './zstd-frames.ts';

/** Readers keep as much in memory. Our own encoder asks for 2 MiB at most. */
const LARGEST_WINDOW = 8 * 1024 * 1024;
/** zstd's bound for a chunk that does not compress, and what places add to it. */
export const LARGEST_FRAME = MAX_CHUNK + (MAX_CHUNK >> 8) + 512 + MOST_PLACES * 64;

export interface NamedChunk {
  readonly hash: Buffer;
  readonly rawLength: number;
  /** In order, none over another. */
  readonly places: readonly Place[];
}

/**
 * The chunk's bytes, in `target` when there is one; those in its places mean nothing. `invalid` for anything but one plain zstd frame of exactly
 * this chunk. A frame with trailing bytes is refused, because readers would decode these too.
 */
export async function verifyFrame(frame: Buffer, chunk: NamedChunk, target?: Buffer): Promise<Buffer> {
  if (!isPlainFrame(frame, chunk.rawLength)) throw refused('it is not one plain zstd frame of that length');
  const raw = await decodeFrame(frame, chunk.rawLength, target).catch((cause: unknown) => {
    throw refused('it cannot be decoded', cause);
  });
  const { places } = chunk;
  if (places.length === 0) {
    if (!plainChunkHash(raw).equals(chunk.hash)) throw refused('its bytes have another hash');
    return raw;
  }
  if (!(await isPatchedFrame(frame, raw, places)))
    throw refused('it lacks the places that it is said to have');
  for (const { offset, length } of places) raw.fill(FILLER, offset, offset + length);
  if (!patchedChunkHash(raw, places).equals(chunk.hash)) throw refused('its bytes have another hash');
  return raw;
}

/** No dictionary, which readers do not have; no checksum, which would not survive that places are filled in. */
function isPlainFrame(frame: Buffer, rawLength: number): boolean {
  if (frame.length > LARGEST_FRAME) return false;
  const header = parseSingleFrame(frame);
  if (header === undefined || header.hasChecksum || header.hasDictionary) return false;
  return header.windowSize <= LARGEST_WINDOW && (header.contentSize ?? rawLength) === rawLength;
}

function refused(why: string, cause?: unknown): SlipwayError {
  return new SlipwayError('invalid', `A frame of the upload is refused: ${why}.`, { cause });
}
