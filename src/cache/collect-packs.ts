// Gives disk back: rewrites packs of which little is used, puts small ones together, removes what nobody reads any more.
import { setImmediate as pause } from 'node:timers/promises';
import { isCode } from '../util/errors.ts';
import {
  readLivePack,
  retireEmpty,
  rewritePacks,
  type LivePack,
  type PackRow,
  type RewriteParts,
} from './rewrite-packs.ts';

/** A pack is rewritten when less than this part of it is used. */
const SPARSE = 0.5;
const MIB = 1024 * 1024;
const SMALL_BYTES = 8 * MIB;
/** So many small packs are worth putting together. */
const ENOUGH_SMALL = 8;
const GROUP_BYTES = 60 * MIB;
const PACKS_A_QUERY = 10;

export interface PackCollection {
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
  readonly progress: () => Promise<void>;
}

export async function collectPacks(
  parts: RewriteParts,
  options: CollectPacksOptions,
): Promise<PackCollection> {
  const total = { rewritten: 0, savedBytes: 0, removed: 0, removedBytes: 0, unreadable: 0 };
  const rewrite = async (group: readonly LivePack[]): Promise<void> => {
    if (!isWorthIt(group)) return;
    await options.progress();
    const saved = await rewriteGroup(parts, group, options.now);
    if (saved === undefined) total.unreadable += group.length;
    else {
      total.rewritten += group.length;
      total.savedBytes += saved;
    }
  };
  let group: LivePack[] = [];
  let groupBytes = 0;
  for await (const live of candidates(parts, options)) {
    if (live === 'unreadable') {
      total.unreadable++;
      continue;
    }
    if (groupBytes + live.liveBytes > GROUP_BYTES) {
      await rewrite(group);
      [group, groupBytes] = [[], 0];
    }
    group.push(live);
    groupBytes += live.liveBytes;
  }
  await rewrite(group);
  const removed = await removeRetired(parts, options.now - options.graceMs, options.progress);
  return { ...total, removed: removed.packs, removedBytes: removed.bytes };
}

/** Removes the blobs of packs that were retired at `before` or earlier. */
export async function removeRetired(
  { database, blobs }: RewriteParts,
  before: number,
  progress: () => Promise<void>,
): Promise<{ readonly packs: number; readonly bytes: number }> {
  const rows = await database.read
    .selectFrom('pack')
    .select(['id', 'blob_key', 'size'])
    .where('retired_at', '<=', before)
    .execute();
  let bytes = 0;
  for (const row of rows) {
    await progress();
    // The blob first: a crash in between leaves a row that the next collection finds again.
    await blobs.delete(row.blob_key);
    await database.write(
      async (transaction) => await transaction.deleteFrom('pack').where('id', '=', row.id).execute(),
    );
    bytes += row.size;
  }
  return { packs: rows.length, bytes };
}

/** Packs that are sparse or small, oldest first. */
async function* candidates(
  parts: RewriteParts,
  options: CollectPacksOptions,
): AsyncGenerator<LivePack | 'unreadable'> {
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
      if (damaged > 0 || !isCandidate(pack, bytes)) continue;
      const live = await readLivePack(parts, pack);
      if (live === undefined || isCandidate(pack, live.liveBytes)) yield live ?? 'unreadable';
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

async function usedBytes(
  { database }: RewriteParts,
  packs: readonly PackRow[],
): Promise<ReadonlyMap<number, PackUse>> {
  if (packs.length === 0) return new Map();
  const rows = await database.read
    .selectFrom('chunk')
    .select((builder) => [
      'pack_id',
      builder.fn.sum<number>('frame_length').as('bytes'),
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

function isCandidate(pack: PackRow, usedBytes: number): boolean {
  return isSparse(pack, usedBytes) || pack.size < SMALL_BYTES;
}

function isSparse(pack: PackRow, usedBytes: number): boolean {
  return usedBytes < pack.size * SPARSE;
}

function isWorthIt(group: readonly LivePack[]): boolean {
  return group.length >= ENOUGH_SMALL || group.some(({ pack, liveBytes }) => isSparse(pack, liveBytes));
}

/** Bytes saved; `undefined` when a frame could not be read. */
async function rewriteGroup(
  parts: RewriteParts,
  group: readonly LivePack[],
  now: number,
): Promise<number | undefined> {
  const before = group.reduce((sum, { pack }) => sum + pack.size, 0);
  try {
    if (group.every(({ entries }) => entries.length === 0)) {
      const packs = group.map(({ pack }) => pack);
      await parts.database.write(async (transaction) => await retireEmpty(transaction, packs, now));
      return before;
    }
    const sealed = await rewritePacks(parts, group, now);
    return before - sealed.reduce((sum, { size }) => sum + size, 0);
  } catch (error) {
    if (isCode(error, 'unavailable')) return undefined;
    throw error;
  }
}
