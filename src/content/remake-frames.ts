// Makes frames of chunks that are stored: of what is still needed of one, or of neighbours that lie in several. Every new
// frame is proven to hold its chunks before it may take an old one's place.
import { SlipwayError } from '../util/errors.ts';
import { findTrueChunks, placesWithin, plainChunkHash, type ChunkSpan } from './chunk-identity.ts';
import { decodeFrame, encodeFrame, type Effort } from './frame-codec.ts';
import { encodePatchedFrame, findPlaces, isPatchedFrame, markerOf, type Place } from './patched-frame.ts';
import { rawFrame } from './raw-frame.ts';

/** Most bytes of a frame that is made of several chunks: readers take so much in one go. */
const LARGEST_MADE = 1024 * 1024;

/** A chunk as it lies in a decoded frame. */
export interface LooseChunk {
  readonly hash: Uint8Array;
  /** With markers in its places. */
  readonly bytes: Buffer;
  readonly places: readonly Place[];
}

export interface MadeFrame {
  readonly frame: Buffer;
  /** The chunks that it decodes to, in order. */
  readonly chunks: readonly ChunkSpan[];
}

/** The chunks of a stored frame that lie at `spans`, as views on what it decodes to. */
export async function looseChunks(
  frame: Buffer,
  rawLength: number,
  spans: readonly ChunkSpan[],
): Promise<LooseChunk[]> {
  const raw = await decodeFrame(frame, rawLength);
  const places = findPlaces(frame, raw);
  return spans.map(({ hash, offset, rawLength: length }) => {
    const bytes = raw.subarray(offset, offset + length);
    const own = placesWithin(places, offset, length);
    // Bytes of its own may look like a place.
    const isPlain = own.length === 0 || plainChunkHash(bytes).equals(hash);
    return { hash, bytes, places: isPlain ? [] : own };
  });
}

/** `keep`: in the order of the frame; neighbours stay together. Fails with `unavailable` when the frame does not hold one of them. */
export async function cutFrame(
  frame: Buffer,
  rawLength: number,
  keep: readonly ChunkSpan[],
): Promise<MadeFrame[]> {
  const loose = await looseChunks(frame, rawLength, keep);
  const made: MadeFrame[] = [];
  let end = -1;
  let group: LooseChunk[] = [];
  for (const [n, { offset, rawLength: length }] of keep.entries()) {
    if (offset !== end && group.length > 0) made.push(...(await joinChunks(group.splice(0), 'usual')));
    group.push(loose[n] as LooseChunk);
    end = offset + length;
  }
  if (group.length > 0) made.push(...(await joinChunks(group, 'usual')));
  return made;
}

/** One frame of all chunks, or several where one would be too large or cannot be made. Fails with `unavailable` as cutFrame() does. */
export async function joinChunks(chunks: readonly LooseChunk[], effort: Effort): Promise<MadeFrame[]> {
  const bytes = Buffer.concat(chunks.map((chunk) => chunk.bytes));
  const { spans, places } = lineUp(chunks);
  const encoded =
    places.length === 0 ? await encodeFrame(bytes, effort) : await encodePatchedFrame(bytes, places, effort);
  if (chunks.length > 1 && (encoded === undefined || encoded.length > LARGEST_MADE)) {
    const half = chunks.length >> 1;
    const first = await joinChunks(chunks.slice(0, half), effort);
    return [...first, ...(await joinChunks(chunks.slice(half), effort))];
  }
  const frame = encoded ?? (await uncompressed(bytes, places));
  if ((await findTrueChunks(frame, bytes.length, spans)).length < spans.length) throw untrue();
  return [{ frame, chunks: spans }];
}

function lineUp(chunks: readonly LooseChunk[]): { readonly spans: ChunkSpan[]; readonly places: Place[] } {
  const spans: ChunkSpan[] = [];
  const places: Place[] = [];
  let start = 0;
  for (const { hash, bytes, places: own } of chunks) {
    spans.push({ hash, offset: start, rawLength: bytes.length });
    for (const { offset, length } of own) places.push({ offset: start + offset, length });
    start += bytes.length;
  }
  return { spans, places };
}

/** What zstd makes no frame of: it must be possible to let go of the rest. */
async function uncompressed(bytes: Buffer, places: readonly Place[]): Promise<Buffer> {
  const marked = Buffer.from(bytes);
  for (const [n, { offset, length }] of places.entries()) markerOf(n, length).copy(marked, offset);
  const frame = rawFrame(marked, places);
  if (await isPatchedFrame(frame, marked, places)) return frame;
  throw untrue();
}

function untrue(): SlipwayError {
  return new SlipwayError('unavailable', 'A frame does not hold the chunks that it is filed with.', {
    next: 'slipway cache fsck --full --repair',
  });
}
