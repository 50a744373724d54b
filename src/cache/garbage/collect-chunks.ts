// Finds chunks that no content uses, and lets them go in two steps: marked first, removed when the mark has held for a
// while. An upload that looks for chunks stores a marked one anew; one that looked before the mark takes the mark off
// when it commits (claim-chunks.ts), or is refused if it took longer than the mark lasts.
import { setImmediate as pause } from 'node:timers/promises';
import type { Database } from '../../storage/database.ts';
import { ChunkFilter } from '../ingest/chunk-filter.ts';
import { dropExpiredChunks, stagedChunks } from '../ingest/held-chunks.ts';
import { parseRecipe } from '../../content/recipe.ts';

const CONTENTS_A_PAGE = 200;
const PACKS_A_PAGE = 100;
const CHUNKS_A_QUERY = 500;

export interface ChunkCollection {
  readonly marked: number;
  readonly removed: number;
  /** Their share of the frames that they are in: dead weight in packs until these are rewritten. */
  readonly removedBytes: number;
}

export interface CollectChunksOptions {
  readonly now: number;
  /** Between mark and removal; longer than an upload takes. */
  readonly graceMs: number;
  /** Called between pages; may throw to stop. */
  readonly progress: () => Promise<void>;
  readonly dryRun?: boolean;
}

export async function collectChunks(
  database: Database,
  options: CollectChunksOptions,
): Promise<ChunkCollection> {
  if (options.dryRun !== true) await dropExpiredChunks(database, options.now);
  const used = await usedChunks(database, options.progress);
  const total = { marked: 0, removed: 0, removedBytes: 0 };
  for await (const pack of packIds(database)) {
    await options.progress();
    // By pack, because the rows of one lie together on the disk: by hash each would cost a seek.
    const rows = await database.read
      .selectFrom('chunk')
      .select(['hash', 'orphaned_at', 'frame_length', 'frame_raw_length', 'raw_length'])
      .where('pack_id', '=', pack)
      .execute();
    const page = sortPage(rows, used, options);
    total.marked += page.mark.length;
    total.removed += page.remove.length;
    for (const row of page.remove) total.removedBytes += shareOfFrame(row);
    if (options.dryRun !== true) await applyPage(database, page, options);
    await pause();
  }
  return total;
}

async function* packIds(database: Database): AsyncGenerator<number> {
  for (let after = 0; ;) {
    const rows = await database.read
      .selectFrom('pack')
      .select('id')
      .where('id', '>', after)
      .orderBy('id')
      .limit(PACKS_A_PAGE)
      .execute();
    for (const { id } of rows) yield id;
    const last = rows.at(-1);
    if (last === undefined) return;
    after = last.id;
  }
}

/** Contents that are committed while this reads claim their chunks themselves. */
async function usedChunks(database: Database, progress: () => Promise<void>): Promise<ChunkFilter> {
  const { count } = await database.read
    .selectFrom('chunk')
    .select((builder) => builder.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow();
  const used = new ChunkFilter(count);
  for (let after = 0; ;) {
    await progress();
    const rows = await database.read
      .selectFrom('content')
      .select(['id', 'recipe'])
      .where('id', '>', after)
      .orderBy('id')
      .limit(CONTENTS_A_PAGE)
      .execute();
    for (const row of rows) for (const { hash } of parseRecipe(row.recipe).chunks) used.add(hash);
    const last = rows.at(-1);
    if (last === undefined || rows.length < CONTENTS_A_PAGE) break;
    after = last.id;
    await pause();
  }
  await addStaged(database, used, progress);
  return used;
}

/** What waits for the rest of its NAR is not garbage yet. */
async function addStaged(
  database: Database,
  used: ChunkFilter,
  progress: () => Promise<void>,
): Promise<void> {
  for (let after: Uint8Array = new Uint8Array(); ;) {
    await progress();
    const hashes = await stagedChunks(database.read, after, CHUNKS_A_QUERY);
    for (const hash of hashes) used.add(hash);
    const last = hashes.at(-1);
    if (last === undefined || hashes.length < CHUNKS_A_QUERY) return;
    after = last;
    await pause();
  }
}

interface ChunkRow {
  readonly hash: Uint8Array;
  readonly orphaned_at: number | null;
  readonly frame_length: number;
  readonly frame_raw_length: number;
  readonly raw_length: number;
}

/** What a chunk takes of its frame, were all bytes of it compressed alike. */
function shareOfFrame(row: Omit<ChunkRow, 'hash' | 'orphaned_at'>): number {
  return Math.round((row.frame_length * row.raw_length) / Math.max(1, row.frame_raw_length));
}

interface ChunkPage {
  readonly mark: readonly ChunkRow[];
  readonly unmark: readonly ChunkRow[];
  readonly remove: readonly ChunkRow[];
}

function sortPage(
  rows: readonly ChunkRow[],
  used: ChunkFilter,
  { now, graceMs }: CollectChunksOptions,
): ChunkPage {
  const needed = new Set(rows.filter((row) => used.has(row.hash)));
  const orphans = rows.filter((row) => !needed.has(row));
  return {
    mark: orphans.filter((row) => row.orphaned_at === null),
    unmark: rows.filter((row) => needed.has(row) && row.orphaned_at !== null),
    remove: orphans.filter((row) => row.orphaned_at !== null && row.orphaned_at <= now - graceMs),
  };
}

async function applyPage(
  database: Database,
  { mark, unmark, remove }: ChunkPage,
  { now, graceMs }: CollectChunksOptions,
): Promise<void> {
  for (const batch of batches(mark))
    await database.write(
      async (transaction) =>
        await transaction
          .updateTable('chunk')
          .set({ orphaned_at: now })
          .where('hash', 'in', batch)
          .where('orphaned_at', 'is', null)
          .execute(),
    );
  for (const batch of batches(unmark))
    await database.write(
      async (transaction) =>
        await transaction
          .updateTable('chunk')
          .set({ orphaned_at: null })
          .where('hash', 'in', batch)
          .execute(),
    );
  for (const batch of batches(remove))
    await database.write(
      async (transaction) =>
        await transaction
          .deleteFrom('chunk')
          .where('hash', 'in', batch)
          .where('orphaned_at', '<=', now - graceMs)
          .execute(),
    );
}

function batches(rows: readonly ChunkRow[]): Uint8Array[][] {
  const hashes = rows.map(({ hash }) => hash);
  return Array.from({ length: Math.ceil(hashes.length / CHUNKS_A_QUERY) }, (_, n) =>
    hashes.slice(n * CHUNKS_A_QUERY, (n + 1) * CHUNKS_A_QUERY),
  );
}
