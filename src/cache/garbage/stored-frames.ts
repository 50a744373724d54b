// Reads frames of packs that are being written anew, mostly one after another: some MB are read in one go, since on S3 a read
// is a request, and what they decode to is kept for the chunks that follow.
import { crc32 } from 'node:zlib';
import { LRUCache } from 'lru-cache';
import { looseChunks, type LooseChunk } from '../../content/remake-frames.ts';
import { rawLengthOf, type PackedFrame } from '../../content/pack-format.ts';
import type { BlobStore } from '../../storage/blob-store.ts';
import { chunksOf } from '../ingest/commit-content.ts';
import { chunkKey } from '../stored-chunks.ts';
import { damagedFrame, type PackRow } from './rewrite-packs.ts';

const WINDOW_BYTES = 4 * 1024 * 1024;
const MOST_WINDOWS = 4;
const DECODED_BYTES = 24 * 1024 * 1024;

interface Window {
  readonly start: number;
  readonly bytes: Buffer;
}

export class StoredFrames {
  readonly #blobs: BlobStore;
  readonly #windows = new LRUCache<string, Window>({ max: MOST_WINDOWS });
  readonly #decoded = new LRUCache<string, ReadonlyMap<string, LooseChunk>>({
    maxSize: DECODED_BYTES,
    sizeCalculation: (chunks) =>
      Math.max(
        1,
        [...chunks.values()].reduce((sum, { bytes }) => sum + bytes.length, 0),
      ),
  });

  constructor(blobs: BlobStore) {
    this.#blobs = blobs;
  }

  /** The frame as it is stored. `unavailable`, with the pack's key as a fact, when it is missing or damaged. */
  async read({ blob_key, size }: PackRow, { offset, length, crc }: PackedFrame): Promise<Buffer> {
    const known = this.#windows.get(blob_key);
    const isThere =
      known !== undefined && offset >= known.start && offset + length <= known.start + known.bytes.length;
    const window = isThere ? known : await this.#open({ blob_key, size }, offset, length);
    const bytes = window?.bytes.subarray(offset - window.start, offset - window.start + length);
    if (bytes !== undefined && crc32(bytes) === crc) return bytes;
    throw damagedFrame(blob_key);
  }

  /** The chunks of a frame, by chunkKey. */
  async chunks(pack: PackRow, frame: PackedFrame): Promise<ReadonlyMap<string, LooseChunk>> {
    const key = `${pack.blob_key} ${frame.offset}`;
    const known = this.#decoded.get(key);
    if (known !== undefined) return known;
    const loose = await looseChunks(await this.read(pack, frame), rawLengthOf(frame), chunksOf(frame));
    const chunks = new Map(loose.map((chunk) => [chunkKey(chunk.hash), chunk]));
    this.#decoded.set(key, chunks);
    return chunks;
  }

  async #open(
    { blob_key, size }: Omit<PackRow, 'id'>,
    start: number,
    least: number,
  ): Promise<Window | undefined> {
    const length = Math.max(least, Math.min(WINDOW_BYTES, size - start));
    const bytes = await this.#blobs.read(blob_key, start, length);
    if (bytes === undefined) return undefined;
    const window = { start, bytes };
    this.#windows.set(blob_key, window);
    return window;
  }
}
