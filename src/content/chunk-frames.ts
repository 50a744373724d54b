// Puts chunks into frames. A chunk is what has a name and is shared; a frame is how chunks lie in packs and go over the
// wire: neighbours of one stream compressed together, because alone each would be a quarter larger (docs/adr/0020).
import type { PatchedChunk } from './chunk-patcher.ts';
import { encodeFrame, FRAME_BYTES, type Effort } from './frame-codec.ts';
import { FrameGroups } from './frame-groups.ts';
import { encodePatchedFrame, type Place } from './patched-frame.ts';

/** Chunks and the one frame that decodes to them, one after another. */
export interface ChunkFrame {
  readonly chunks: readonly PatchedChunk[];
  readonly frame: Buffer;
}

/** Groups of chunks whose bytes are at hand, for frames as uploads have them. */
export function chunkGroups(): FrameGroups<PatchedChunk> {
  return new FrameGroups(
    ({ bytes, patches }) => ({ bytes: bytes.length, places: patches.length }),
    FRAME_BYTES,
  );
}

/** Frames of a group. A chunk with places that zstd makes no frame of is in none of them: it can only be stored plain. */
export async function encodeGroup(
  chunks: readonly PatchedChunk[],
  effort: Effort = 'usual',
): Promise<ChunkFrame[]> {
  const bytes = joined(chunks.map((chunk) => chunk.bytes));
  const places = placesOf(chunks);
  if (places.length === 0) return [{ chunks, frame: await encodeFrame(bytes, effort) }];
  const frame = await encodePatchedFrame(bytes, places, effort);
  if (frame !== undefined) return [{ chunks, frame }];
  if (chunks.length === 1) return [];
  // One of them is to blame: the others go on together.
  const half = chunks.length >> 1;
  const halves = [chunks.slice(0, half), chunks.slice(half)];
  return (await Promise.all(halves.map(async (some) => await encodeGroup(some, effort)))).flat();
}

/** The places of all chunks, from the start of the first. */
function placesOf(chunks: readonly PatchedChunk[]): Place[] {
  const places: Place[] = [];
  let start = 0;
  for (const { bytes, patches } of chunks) {
    for (const { offset, literal } of patches)
      places.push({ offset: start + offset, length: literal.length });
    start += bytes.length;
  }
  return places;
}

/** Neighbours that lie side by side in one slab need no copy. */
function joined(parts: readonly Buffer[]): Buffer {
  const [first] = parts;
  if (first === undefined || parts.length === 1) return first ?? Buffer.alloc(0);
  let end = first.byteOffset;
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  for (const part of parts) {
    if (part.buffer !== first.buffer || part.byteOffset !== end) return Buffer.concat(parts, length);
    end += part.length;
  }
  return Buffer.from(first.buffer, first.byteOffset, length);
}
