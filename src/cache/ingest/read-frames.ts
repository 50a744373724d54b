// Reads stored frames for an upload that counts on them: neighbours in one go, each checked. A frame that is missing or
// broken is noted as damaged, so that the next probe asks for it and the push heals it.
import { crc32 } from 'node:zlib';
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import { mapBounded } from '../../util/concurrency.ts';
import { chunkKey, type HeldFrame } from './held-chunks.ts';

const RUN_BYTES = 1024 * 1024;
const READS = 4;

/** The frames by chunkKey; those that cannot be read are left out. */
export async function readFrames(
  parts: { readonly database: Database; readonly blobs: BlobStore },
  wanted: readonly HeldFrame[],
): Promise<Map<string, Buffer>> {
  const frames = new Map<string, Buffer>();
  const broken: HeldFrame[] = [];
  await mapBounded(planRuns(wanted), READS, async (run) => {
    const first = run[0] as HeldFrame;
    const last = run.at(-1) as HeldFrame;
    const bytes = await parts.blobs.read(
      first.blobKey,
      first.offset,
      last.offset + last.length - first.offset,
    );
    for (const frame of run) {
      const at = frame.offset - first.offset;
      const found = bytes?.subarray(at, at + frame.length);
      if (found !== undefined && crc32(found) === frame.crc) frames.set(chunkKey(frame.hash), found);
      else broken.push(frame);
    }
  });
  if (broken.length > 0) await noteDamage(parts.database, broken);
  return frames;
}

function planRuns(wanted: readonly HeldFrame[]): HeldFrame[][] {
  const sorted = wanted.toSorted((a, b) =>
    a.blobKey === b.blobKey ? a.offset - b.offset : a.blobKey < b.blobKey ? -1 : 1,
  );
  const runs: HeldFrame[][] = [];
  for (const frame of sorted) {
    const run = runs.at(-1);
    if (run !== undefined && continues(run, frame)) run.push(frame);
    else runs.push([frame]);
  }
  return runs;
}

function continues(run: readonly HeldFrame[], frame: HeldFrame): boolean {
  const first = run[0] as HeldFrame;
  const last = run.at(-1) as HeldFrame;
  return (
    frame.blobKey === first.blobKey &&
    frame.offset === last.offset + last.length &&
    frame.offset + frame.length - first.offset <= RUN_BYTES
  );
}

/** Only where the frame still is where it was read: repacking may have moved it meanwhile. */
async function noteDamage(database: Database, broken: readonly HeldFrame[]): Promise<void> {
  await database.write(async (transaction) => {
    for (const { hash, blobKey, offset } of broken)
      await transaction
        .updateTable('chunk')
        .set({ damaged_at: Date.now() })
        .where('hash', '=', hash)
        .where('frame_offset', '=', offset)
        .where('pack_id', '=', (select) =>
          select.selectFrom('pack').select('id').where('blob_key', '=', blobKey),
        )
        .where('damaged_at', 'is', null)
        .execute();
  });
}
