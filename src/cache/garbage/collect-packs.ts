// Gives disk back: compresses well what was stored quickly, rewrites packs of which little is used, puts small ones together,
// removes what nobody reads any more.
import { setImmediate as pause } from 'node:timers/promises';
import { sql } from 'kysely';
import { isCode } from '../../util/errors.ts';
import { isSparse, planPackGroups, SMALL_PACK_BYTES } from './plan-packs.ts';
import { waitForLease } from './lease.ts';
import { removeRetired } from './retired-packs.ts';
import { settlePacks } from './settle-packs.ts';
import {
  readLivePack,
  retireEmpty,
  rewritePacks,
  type LivePack,
  type PackRow,
  type RewriteOptions,
  type RewriteParts,
} from './rewrite-packs.ts';

const PACKS_A_QUERY = 10;

export interface PackCollection {
  /** Packs that were compressed anew, for good. */
  readonly settled: number;
  readonly rewritten: number;
  /** Bytes of packs that were retired less what was written in their place. */
  readonly savedBytes: number;
  /** Packs that really went, retired by this collection or an earlier one. */
  readonly removed: number;
  readonly removedBytes: number;
  /** Packs left as they are because they could not be read. */
  readonly unreadable: number;
}

export interface CollectPacksOptions {
  readonly now: number;
  /** Younger packs are left alone: what was just written is merged later. */
  readonly youngMs: number;
  /** Between retiring a pack and removing it: longer than a download takes. */
  readonly graceMs: number;
  /** Fewer wait for a day before they are settled. */
  readonly settleBytes: number;
  readonly progress: () => Promise<void>;
  readonly onSettled?: ((done: number, all: number) => void) | undefined;
}

export async function collectPacks(
  parts: RewriteParts,
  options: CollectPacksOptions,
): Promise<PackCollection> {
  await using lease = await waitForLease(parts.database, 'packs');
  const progress = async (): Promise<void> => {
    await options.progress();
    await lease.renew();
  };
  const { onSettled, ...limits } = options;
  const settled = await settlePacks(parts, { ...limits, progress, ...(onSettled && { onSettled }) });
  const found: Candidate[] = [];
  let unreadable = 0;
  for await (const candidate of candidates(parts, { ...options, progress }))
    if (candidate === 'unreadable') unreadable++;
    else found.push(candidate);
  const total = await rewriteGroups(parts, planPackGroups(found), { now: options.now, progress });
  const removed = await removeRetired(parts, {
    before: options.now - options.graceMs,
    now: options.now,
    progress,
  });
  return {
    ...total,
    settled: settled.packs,
    savedBytes: total.savedBytes + settled.savedBytes,
    unreadable: unreadable + total.unreadable.length,
    removed: removed.packs,
    removedBytes: removed.bytes,
  };
}

export interface RewriteTotal {
  readonly rewritten: number;
  readonly savedBytes: number;
  /** Ids of packs that could not be read. */
  readonly unreadable: readonly number[];
}

/** Writes each group anew; one that cannot be read is left as it is. */
export async function rewriteGroups(
  parts: RewriteParts,
  groups: readonly (readonly PackRow[])[],
  { now, progress }: Required<RewriteOptions>,
): Promise<RewriteTotal> {
  const unreadable: number[] = [];
  let [rewritten, savedBytes] = [0, 0];
  for (const group of groups) {
    await progress();
    const live: LivePack[] = [];
    for (const pack of group) {
      const read = await readLivePack(parts, pack);
      if (read === undefined) unreadable.push(pack.id);
      else live.push(read);
    }
    const saved = await rewriteGroup(parts, live, { now, progress });
    if (saved === undefined) {
      unreadable.push(...live.map(({ pack }) => pack.id));
      continue;
    }
    rewritten += live.length;
    savedBytes += saved;
  }
  return { rewritten, savedBytes, unreadable };
}

interface Candidate extends PackRow {
  readonly liveBytes: number;
}

/** Packs that are sparse or small, oldest first. */
async function* candidates(
  parts: RewriteParts,
  options: CollectPacksOptions,
): AsyncGenerator<Candidate | 'unreadable'> {
  for (let after = 0; ;) {
    await options.progress();
    const packs = await parts.database.read
      .selectFrom('pack')
      .select(['id', 'blob_key', 'size'])
      .where('id', '>', after)
      .where('retired_at', 'is', null)
      .where('created_at', '<=', options.now - options.youngMs)
      .orderBy('id')
      .limit(PACKS_A_QUERY)
      .execute();
    const used = await usedBytes(parts, packs);
    for (const pack of packs) {
      const { bytes, damaged } = used.get(pack.id) ?? { bytes: 0, damaged: 0 };
      // A damaged chunk holds its pack until a push heals it; rewriting would only copy the rest again and again.
      if (damaged > 0 || !isCandidate({ ...pack, liveBytes: bytes })) continue;
      const live = await readLivePack(parts, pack); // recipes count as well
      if (live === undefined) yield 'unreadable';
      else if (isCandidate({ ...pack, liveBytes: live.liveBytes }))
        yield { ...pack, liveBytes: live.liveBytes };
    }
    const last = packs.at(-1);
    if (last === undefined || packs.length < PACKS_A_QUERY) return;
    after = last.id;
    await pause();
  }
}

interface PackUse {
  readonly bytes: number;
  readonly damaged: number;
}

/** What chunks take of each pack, by their shares of frames; recipes are not counted. */
async function usedBytes(
  { database }: RewriteParts,
  packs: readonly PackRow[],
): Promise<ReadonlyMap<number, PackUse>> {
  if (packs.length === 0) return new Map();
  const rows = await database.read
    .selectFrom('chunk')
    .select((builder) => [
      'pack_id',
      sql<number>`sum(cast(frame_length as real) * raw_length / frame_raw_length)`.as('bytes'),
      builder.fn.count<number>('damaged_at').as('damaged'),
    ])
    .where(
      'pack_id',
      'in',
      packs.map(({ id }) => id),
    )
    .groupBy('pack_id')
    .execute();
  return new Map(rows.map((row) => [row.pack_id, { bytes: row.bytes, damaged: row.damaged }]));
}

function isCandidate(pack: Candidate): boolean {
  return isSparse(pack) || pack.size < SMALL_PACK_BYTES;
}

/** Bytes saved; `undefined` when a frame could not be read. */
async function rewriteGroup(
  parts: RewriteParts,
  group: readonly LivePack[],
  options: Required<RewriteOptions>,
): Promise<number | undefined> {
  const before = group.reduce((sum, { pack }) => sum + pack.size, 0);
  try {
    if (group.every(({ frames }) => frames.length === 0)) {
      const packs = group.map(({ pack }) => pack);
      await parts.database.write(async (transaction) => await retireEmpty(transaction, packs, options.now));
      return before;
    }
    const sealed = await rewritePacks(parts, group, options);
    return before - sealed.reduce((sum, { size }) => sum + size, 0);
  } catch (error) {
    if (isCode(error, 'unavailable')) return undefined;
    throw error;
  }
}
