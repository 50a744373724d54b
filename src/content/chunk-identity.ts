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

/** Whether a stored frame is the chunk that it is filed as. For looking after what is stored; serving checks the CRC. */
export async function isChunkFrame(frame: Buffer, rawLength: number, expected: Uint8Array): Promise<boolean> {
  const raw = await decodeFrame(frame, rawLength).catch(() => undefined);
  if (raw === undefined) return false;
  if (plainChunkHash(raw).equals(expected)) return true;
  const places = findPlaces(frame, raw);
  for (const { offset, length } of places) raw.fill(FILLER, offset, offset + length);
  return places.length > 0 && patchedChunkHash(raw, places).equals(expected);
}
