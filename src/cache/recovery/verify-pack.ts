// Reads a pack from its first to its last byte and finds the chunks that are not what they are filed as.
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import { isChunkFrame } from '../../content/chunk-identity.ts';

const CHUNKS_AT_ONCE = 64; // some 4 MiB of frames
const HASHES_A_QUERY = 500;

export interface VerifyParts {
  readonly database: Database;
  readonly blobs: BlobStore;
}

export interface VerifyOptions {
  /** Also decompress each chunk and compare its name; otherwise the CRC-32 of its frame counts. */
  readonly deep: boolean;
  /** How fast to read; absent: as fast as it goes. */
  readonly bytesPerSecond?: number;
  readonly signal?: AbortSignal;
}

export interface PackFindings {
  readonly chunks: number;
  readonly bytes: number;
  /** Chunks that are missing or damaged; some may be known already. */
  readonly damaged: readonly Uint8Array[];
}

export async function verifyPack(
  { database, blobs }: VerifyParts,
  pack: { readonly id: number; readonly blob_key: string },
  options: VerifyOptions,
): Promise<PackFindings> {
  const damaged: Uint8Array[] = [];
  let [chunks, bytes] = [0, 0];
  for (let after = -1; ;) {
    options.signal?.throwIfAborted();
    const startedAt = performance.now();
    const rows = await database.read
      .selectFrom('chunk')
      .select(['hash', 'frame_offset', 'frame_length', 'frame_crc', 'raw_length'])
      .where('pack_id', '=', pack.id)
      .where('frame_offset', '>', after)
      .orderBy('frame_offset')
      .limit(CHUNKS_AT_ONCE)
      .execute();
    let read = 0;
    for (const row of rows) {
      const frame = await blobs.read(pack.blob_key, row.frame_offset, row.frame_length);
      const intact =
        frame !== undefined &&
        crc32(frame) === row.frame_crc &&
        (!options.deep || (await isChunkFrame(frame, row.raw_length, row.hash)));
      if (!intact) damaged.push(row.hash);
      read += row.frame_length;
    }
    chunks += rows.length;
    bytes += read;
    await keepPace(options, read, performance.now() - startedAt);
    const last = rows.at(-1);
    if (last === undefined || rows.length < CHUNKS_AT_ONCE) return { chunks, bytes, damaged };
    after = last.frame_offset;
  }
}

/** From now on uploads store these chunks anew. Returns how many were not known to be damaged. */
export async function markDamagedChunks(
  database: Database,
  pack: { readonly id: number },
  hashes: readonly Uint8Array[],
): Promise<number> {
  let marked = 0;
  for (let from = 0; from < hashes.length; from += HASHES_A_QUERY) {
    const batch = hashes.slice(from, from + HASHES_A_QUERY);
    const { numUpdatedRows } = await database.write(
      async (transaction) =>
        await transaction
          .updateTable('chunk')
          .set({ damaged_at: Date.now() })
          .where('hash', 'in', batch)
          .where('pack_id', '=', pack.id) // not one that was moved or stored anew meanwhile
          .where('damaged_at', 'is', null)
          .executeTakeFirst(),
    );
    marked += Number(numUpdatedRows);
  }
  return marked;
}

async function keepPace(
  { bytesPerSecond, signal }: VerifyOptions,
  bytes: number,
  tookMs: number,
): Promise<void> {
  if (bytesPerSecond === undefined) return;
  const rest = (bytes / bytesPerSecond) * 1000 - tookMs;
  if (rest > 0) await sleep(rest, undefined, { ref: false, ...(signal && { signal }) });
}
