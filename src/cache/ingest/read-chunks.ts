// Reads stored chunks for an upload that counts on them: frames that lie side by side in one go, each checked and decoded
// once, however many of its chunks are wanted. The chunks of a frame that is missing or broken are noted as damaged, so
// that the next probe asks for them and the push heals them.
import { crc32 } from 'node:zlib';
import { decodeFrame } from '../../content/frame-codec.ts';
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import { mapBounded } from '../../util/concurrency.ts';
import type { ChunkMemory } from './chunk-memory.ts';
import { chunkKey, type StoredChunk, type StoredFrame } from '../stored-chunks.ts';

const RUN_BYTES = 1024 * 1024;
const READS = 4;

/** The bytes by chunkKey, as stored, in `memory`; those that cannot be read are left out. */
export async function readChunks(
  parts: { readonly database: Database; readonly blobs: BlobStore },
  wanted: readonly StoredChunk[],
  memory: ChunkMemory,
): Promise<Map<string, Buffer>> {
  const chunks = new Map<string, Buffer>();
  const broken: StoredFrame[] = [];
  await mapBounded(planRuns(groupByFrame(wanted)), READS, async (run) => {
    const bytes = await readRun(parts.blobs, run);
    for (const group of run) {
      const raw = await decode(group.frame, bytes?.get(group), memory);
      if (raw === undefined) broken.push(group.frame);
      else
        for (const { hash, offset, rawLength } of group.chunks)
          chunks.set(chunkKey(hash), raw.subarray(offset, offset + rawLength));
    }
  });
  if (broken.length > 0) await noteDamage(parts.database, broken);
  return chunks;
}

/** A frame, and what is wanted of it. */
interface WantedFrame {
  readonly frame: StoredFrame;
  readonly chunks: StoredChunk[];
}

/** In the order in which they lie in packs. */
function groupByFrame(wanted: readonly StoredChunk[]): WantedFrame[] {
  const groups = new Map<string, WantedFrame>();
  for (const chunk of wanted) {
    const key = `${chunk.frame.blobKey} ${chunk.frame.offset}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { frame: chunk.frame, chunks: [chunk] });
    else group.chunks.push(chunk);
  }
  return [...groups.values()].toSorted(({ frame: a }, { frame: b }) =>
    a.blobKey === b.blobKey ? a.offset - b.offset : a.blobKey < b.blobKey ? -1 : 1,
  );
}

function planRuns(groups: readonly WantedFrame[]): WantedFrame[][] {
  const runs: WantedFrame[][] = [];
  for (const group of groups) {
    const run = runs.at(-1);
    if (run !== undefined && goesOn(run, group)) run.push(group);
    else runs.push([group]);
  }
  return runs;
}

function goesOn(run: readonly WantedFrame[], { frame }: WantedFrame): boolean {
  const { frame: first } = run[0] as WantedFrame;
  const { frame: last } = run.at(-1) as WantedFrame;
  return (
    frame.blobKey === first.blobKey &&
    frame.offset === last.offset + last.length &&
    frame.offset + frame.length - first.offset <= RUN_BYTES
  );
}

async function readRun(
  blobs: BlobStore,
  run: readonly WantedFrame[],
): Promise<ReadonlyMap<WantedFrame, Buffer> | undefined> {
  const { frame: first } = run[0] as WantedFrame;
  const { frame: last } = run.at(-1) as WantedFrame;
  const bytes = await blobs.read(first.blobKey, first.offset, last.offset + last.length - first.offset);
  if (bytes === undefined) return undefined;
  return new Map(
    run.map((group) => {
      const at = group.frame.offset - first.offset;
      return [group, bytes.subarray(at, at + group.frame.length)];
    }),
  );
}

async function decode(
  frame: StoredFrame,
  bytes: Buffer | undefined,
  memory: ChunkMemory,
): Promise<Buffer | undefined> {
  if (bytes === undefined || crc32(bytes) !== frame.crc) return undefined;
  return await decodeFrame(bytes, frame.rawLength, memory.take(frame.rawLength)).catch(() => undefined);
}

/** Only where the frame still is where it was read: repacking may have moved it meanwhile. */
async function noteDamage(database: Database, broken: readonly StoredFrame[]): Promise<void> {
  await database.write(async (transaction) => {
    for (const { blobKey, offset } of broken)
      await transaction
        .updateTable('chunk')
        .set({ damaged_at: Date.now() })
        .where('frame_offset', '=', offset)
        .where('pack_id', '=', (select) =>
          select.selectFrom('pack').select('id').where('blob_key', '=', blobKey),
        )
        .where('damaged_at', 'is', null)
        .execute();
  });
}
