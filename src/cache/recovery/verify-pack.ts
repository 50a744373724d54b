// Reads a pack from its first to its last byte and finds the chunks that are not what they are filed as.
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import { findTrueChunks } from '../../content/chunk-identity.ts';
import { PLACE_COLUMNS } from '../stored-chunks.ts';

const CHUNKS_AT_ONCE = 128; // some 4 MiB of frames
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
  for (let after: FrameRow | undefined; ;) {
    options.signal?.throwIfAborted();
    const startedAt = performance.now();
    const rows = await readRows(database, pack.id, after);
    let read = 0;
    for (const frame of groupByFrame(rows)) {
      damaged.push(...(await findDamaged(blobs, pack.blob_key, frame, options)));
      read += frame[0]?.frame_length ?? 0;
    }
    chunks += rows.length;
    bytes += read;
    await keepPace(options, read, performance.now() - startedAt);
    after = rows.at(-1);
    if (after === undefined || rows.length < CHUNKS_AT_ONCE) return { chunks, bytes, damaged };
  }
}

interface FrameRow {
  readonly hash: Uint8Array;
  readonly frame_offset: number;
  readonly frame_length: number;
  readonly frame_crc: number;
  readonly frame_raw_length: number;
  readonly chunk_offset: number;
  readonly raw_length: number;
}

/** The next chunks in the order of the pack; a frame that a page divides is read twice. */
async function readRows(
  { read }: Database,
  packId: number,
  after: FrameRow | undefined,
): Promise<FrameRow[]> {
  const [frame, chunk] = [after?.frame_offset ?? -1, after?.chunk_offset ?? -1];
  return await read
    .selectFrom('chunk')
    .select(['hash', ...PLACE_COLUMNS])
    .where('pack_id', '=', packId)
    .where((where) =>
      where.or([
        where('frame_offset', '>', frame),
        where.and([where('frame_offset', '=', frame), where('chunk_offset', '>', chunk)]),
      ]),
    )
    .orderBy('frame_offset')
    .orderBy('chunk_offset')
    .limit(CHUNKS_AT_ONCE)
    .execute();
}

function groupByFrame(rows: readonly FrameRow[]): FrameRow[][] {
  const groups: FrameRow[][] = [];
  for (const row of rows) {
    const group = groups.at(-1);
    if (group?.[0]?.frame_offset === row.frame_offset) group.push(row);
    else groups.push([row]);
  }
  return groups;
}

/** Those of the chunks of one frame that are not what they are filed as. */
async function findDamaged(
  blobs: BlobStore,
  blobKey: string,
  rows: readonly FrameRow[],
  { deep }: VerifyOptions,
): Promise<Uint8Array[]> {
  const { frame_offset, frame_length, frame_raw_length } = rows[0] as FrameRow;
  const frame = await blobs.read(blobKey, frame_offset, frame_length);
  const crc = frame === undefined ? undefined : crc32(frame);
  const filed = rows.filter(({ frame_crc }) => frame_crc === crc);
  const spans = filed.map(({ hash, chunk_offset, raw_length }) => ({
    hash,
    offset: chunk_offset,
    rawLength: raw_length,
  }));
  const intact = deep && frame !== undefined ? await findTrueChunks(frame, frame_raw_length, spans) : spans;
  const sound = new Set(intact.map(({ hash }) => hash));
  return rows.map(({ hash }) => hash).filter((hash) => !sound.has(hash));
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
