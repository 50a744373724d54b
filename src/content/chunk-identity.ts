// What a chunk is called. A plain one by the SHA-256 of its bytes; one with places to fill in by the SHA-512/256 of its
// bytes, filler in the places, and of where the places are. Two hash functions, so that nobody can make bytes whose plain
// name is that of another chunk with places: a chunk is never taken for what it is not.
import { createHash, hash } from 'node:crypto';
import { decodeFrame } from './frame-codec.ts';
import { FILLER } from './normaliser.ts';
import { findPlaces, type Place } from './patched-frame.ts';

export function plainChunkHash(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer');
}

/** `bytes` with filler in all `places`. */
export function patchedChunkHash(bytes: Buffer, places: readonly Place[]): Buffer {
  const table = Buffer.alloc(8 * places.length);
  for (const [n, { offset, length }] of places.entries()) {
    table.writeUInt32LE(offset, 8 * n);
    table.writeUInt32LE(length, 8 * n + 4);
  }
  return createHash('sha512-256').update(bytes).update(table).digest();
}

/** Where a chunk lies in what a frame decodes to. */
export interface ChunkSpan {
  readonly hash: Uint8Array;
  readonly offset: number;
  readonly rawLength: number;
}

/** Which of the chunks a stored frame really holds. For looking after what is stored; serving checks the CRC. */
export async function findTrueChunks<Span extends ChunkSpan>(
  frame: Buffer,
  rawLength: number,
  spans: readonly Span[],
): Promise<Span[]> {
  const raw = await decodeFrame(frame, rawLength).catch(() => undefined);
  if (raw === undefined) return [];
  const places = findPlaces(frame, raw);
  return spans.filter((span) => isChunk(raw, places, span));
}

function isChunk(
  raw: Buffer,
  places: readonly Place[],
  { hash: name, offset, rawLength }: ChunkSpan,
): boolean {
  const bytes = raw.subarray(offset, offset + rawLength);
  if (bytes.length !== rawLength) return false;
  if (plainChunkHash(bytes).equals(name)) return true;
  const own = placesWithin(places, offset, rawLength);
  const filled = Buffer.from(bytes);
  for (const place of own) filled.fill(FILLER, place.offset, place.offset + place.length);
  return own.length > 0 && patchedChunkHash(filled, own).equals(name);
}

/** Those of a frame's places that lie in one of its chunks, from that chunk's start. */
export function placesWithin(places: readonly Place[], start: number, length: number): Place[] {
  return places
    .filter(({ offset }) => offset >= start && offset < start + length)
    .map((place) => ({ offset: place.offset - start, length: place.length }));
}
