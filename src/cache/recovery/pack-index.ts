// Reads the index at the end of a pack in the blob store.
import type { BlobStore } from '../../storage/blob-store.ts';
import { isCode } from '../../util/errors.ts';
import {
  packIndexLength,
  parsePackIndex,
  parsePackTrailer,
  TRAILER_BYTES,
  type PackedFrame,
} from '../../content/pack-format.ts';

/** `undefined` when the pack is missing or its index is damaged. */
export async function readPackIndex(blobs: BlobStore, key: string): Promise<PackedFrame[] | undefined> {
  const size = await blobs.size(key);
  if (size === undefined || size < TRAILER_BYTES) return undefined;
  const trailer = await blobs.read(key, size - TRAILER_BYTES, TRAILER_BYTES);
  if (trailer === undefined) return undefined;
  try {
    const length = packIndexLength(parsePackTrailer(trailer));
    const index = length > size ? undefined : await blobs.read(key, size - length, length);
    return index === undefined ? undefined : parsePackIndex(index);
  } catch (error) {
    if (isCode(error, 'internal')) return undefined;
    throw error;
  }
}
