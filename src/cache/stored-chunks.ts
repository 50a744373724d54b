// Where chunks are: in which frame of which pack, and where in what that frame decodes to.
import type { Kysely } from 'kysely';
import type { ChunkTable, PackTable } from '../storage/cache-tables.ts';
import type { Schema } from '../storage/schema.ts';

const HASHES_A_QUERY = 500;

/** Bytes in a pack. */
export interface StoredFrame {
  readonly blobKey: string;
  readonly offset: number;
  readonly length: number;
  readonly crc: number;
  /** What it decodes to: all of its chunks. */
  readonly rawLength: number;
}

export interface StoredChunk {
  readonly hash: Uint8Array;
  readonly frame: StoredFrame;
  /** From the start of what the frame decodes to. */
  readonly offset: number;
  readonly rawLength: number;
}

/** Columns of `chunk` that say where it lies in its pack. */
export const PLACE_COLUMNS = [
  'frame_offset',
  'frame_length',
  'frame_crc',
  'frame_raw_length',
  'chunk_offset',
  'raw_length',
] as const;

/** Columns of `chunk` joined with `pack` that make a StoredChunk. */
export const STORED_CHUNK_COLUMNS = ['chunk.hash', 'blob_key', ...PLACE_COLUMNS] as const;

export type StoredChunkRow = Omit<ChunkTable, 'pack_id' | 'damaged_at' | 'orphaned_at'> &
  Pick<PackTable, 'blob_key'>;

export function storedChunkOf(row: StoredChunkRow): StoredChunk {
  return {
    hash: row.hash,
    frame: {
      blobKey: row.blob_key,
      offset: row.frame_offset,
      length: row.frame_length,
      crc: row.frame_crc,
      rawLength: row.frame_raw_length,
    },
    offset: row.chunk_offset,
    rawLength: row.raw_length,
  };
}

/** By chunkKey; those that are unknown or damaged are left out. */
export async function locateChunks(
  db: Kysely<Schema>,
  hashes: readonly Uint8Array[],
): Promise<Map<string, StoredChunk>> {
  const found = new Map<string, StoredChunk>();
  for (const batch of hashBatches(hashes)) {
    const rows = await db
      .selectFrom('chunk')
      .innerJoin('pack', 'pack.id', 'chunk.pack_id')
      .select(STORED_CHUNK_COLUMNS)
      .where('chunk.hash', 'in', batch)
      .where('chunk.damaged_at', 'is', null)
      .execute();
    for (const row of rows) found.set(chunkKey(row.hash), storedChunkOf(row));
  }
  return found;
}

export function chunkKey(hash: Uint8Array): string {
  return Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString('latin1');
}

/** Each hash once, in as many as a query takes. */
export function* hashBatches(hashes: readonly Uint8Array[]): Generator<Uint8Array[]> {
  const unique = [...new Map(hashes.map((hash) => [chunkKey(hash), hash])).values()];
  for (let from = 0; from < unique.length; from += HASHES_A_QUERY)
    yield unique.slice(from, from + HASHES_A_QUERY);
}
