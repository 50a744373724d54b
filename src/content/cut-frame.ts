// Makes frames of what is still needed of one: chunks that lie side by side in it stay together. Every new frame is proven to
// hold its chunks before it may take the old one's place.
import { SlipwayError } from '../util/errors.ts';
import { findTrueChunks, placesWithin, type ChunkSpan } from './chunk-identity.ts';
import { decodeFrame, encodeFrame } from './frame-codec.ts';
import { encodePatchedFrame, findPlaces, isPatchedFrame, markerOf, type Place } from './patched-frame.ts';
import { rawFrame } from './raw-frame.ts';

export interface CutFrame {
  readonly frame: Buffer;
  /** The chunks that it decodes to, in order. */
  readonly chunks: readonly ChunkSpan[];
}

/** `keep`: in the order of the frame. Fails with `unavailable` when the frame does not hold one of them. */
export async function cutFrame(
  frame: Buffer,
  rawLength: number,
  keep: readonly ChunkSpan[],
): Promise<CutFrame[]> {
  const raw = await decodeFrame(frame, rawLength);
  const places = findPlaces(frame, raw);
  const cut: CutFrame[] = [];
  for (const chunks of neighbours(keep)) {
    const start = chunks[0]?.offset ?? 0;
    const length = chunks.reduce((sum, chunk) => sum + chunk.rawLength, 0);
    const made = await encode(raw.subarray(start, start + length), placesWithin(places, start, length));
    const moved = chunks.map((chunk) => ({ ...chunk, offset: chunk.offset - start }));
    if ((await findTrueChunks(made, length, moved)).length < chunks.length) throw untrue();
    cut.push({ frame: made, chunks: moved });
  }
  return cut;
}

function neighbours(spans: readonly ChunkSpan[]): ChunkSpan[][] {
  const groups: ChunkSpan[][] = [];
  let end = -1;
  for (const span of spans) {
    if (span.offset === end) groups.at(-1)?.push(span);
    else groups.push([span]);
    end = span.offset + span.rawLength;
  }
  return groups;
}

/** What zstd makes no frame of goes uncompressed: it must be possible to let go of the rest. */
async function encode(bytes: Buffer, places: readonly Place[]): Promise<Buffer> {
  if (places.length === 0) return await encodeFrame(bytes);
  const encoded = await encodePatchedFrame(bytes, places);
  if (encoded !== undefined) return encoded;
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
