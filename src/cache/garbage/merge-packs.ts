// Puts small packs together soon after they were written: every push leaves one, and on S3 each is an object to pay for.
// Beside the daily collection, which also looks into packs; here only sizes count, so a look costs one query.
import type { Database } from '../../storage/database.ts';
import { isCode } from '../../util/errors.ts';
import { rewriteGroups } from './collect-packs.ts';
import { damagedPacks } from './damaged-packs.ts';
import { takeLease } from './lease.ts';
import { ENOUGH_SMALL, planPackGroups, SMALL_PACK_BYTES } from './plan-packs.ts';
import { anyRetired, removeRetired } from './retired-packs.ts';
import type { PackRow, RewriteParts } from './rewrite-packs.ts';

const EVERY_MS = 60_000;
/** Uploads that go on at once share a pack; most have ended by then. One that has not takes its pack back. */
const YOUNG_MS = 60_000;
/** As in a collection: longer than a download takes. */
const GRACE_MS = 2 * 3600_000;
/** More wait for the next look. */
const PACKS_A_LOOK = 10_000;

export interface MergeOptions {
  readonly now: number;
  readonly youngMs: number;
  readonly graceMs: number;
  /** Ids of packs that could not be read lately. */
  readonly skip?: Set<number>;
  readonly signal?: AbortSignal;
}

export interface PackMerge {
  /** Packs that were put together. */
  readonly merged: number;
  /** Packs that went, retired by this look or an earlier one. */
  readonly removed: number;
}

/** One look. `undefined` while another process merges or collects. */
export async function mergePacks(parts: RewriteParts, options: MergeOptions): Promise<PackMerge | undefined> {
  if (!(await hasWork(parts.database, options))) return { merged: 0, removed: 0 };
  await using lease = await takeLease(parts.database, 'packs');
  if (lease === undefined) return undefined;
  const progress = async (): Promise<void> => {
    options.signal?.throwIfAborted();
    await lease.renew();
  };
  const small = await findSmall(parts.database, options);
  const groups = planPackGroups(small.map((pack) => ({ ...pack, liveBytes: pack.size })));
  const { rewritten, unreadable } = await rewriteGroups(parts, groups, { now: options.now, progress });
  for (const id of unreadable) options.skip?.add(id);
  const { packs } = await removeRetired(parts, {
    before: options.now - options.graceMs,
    now: options.now,
    progress,
  });
  return { merged: rewritten, removed: packs };
}

export interface MergeSchedule extends RewriteParts {
  readonly onError: (error: unknown) => void;
}

/** Looks every minute until it is disposed. */
export function mergeRegularly({ onError, ...parts }: MergeSchedule): AsyncDisposable {
  const closing = new AbortController();
  const skip = new Set<number>();
  let running: Promise<unknown> | undefined;
  const look = async (): Promise<void> => {
    const options = { now: Date.now(), youngMs: YOUNG_MS, graceMs: GRACE_MS, skip, signal: closing.signal };
    await mergePacks(parts, options).catch((error: unknown) => {
      if (!closing.signal.aborted && !isCode(error, 'conflict')) onError(error);
    });
    running = undefined;
  };
  const timer = setInterval(() => (running ??= look()), EVERY_MS).unref();
  return {
    [Symbol.asyncDispose]: async () => {
      clearInterval(timer);
      closing.abort();
      await running;
    },
  };
}

async function hasWork(database: Database, options: MergeOptions): Promise<boolean> {
  const { count } = await database.read
    .selectFrom('pack')
    .select((builder) => builder.fn.countAll<number>().as('count'))
    .where('retired_at', 'is', null)
    .where('size', '<', SMALL_PACK_BYTES)
    .executeTakeFirstOrThrow();
  if (count >= ENOUGH_SMALL) return true;
  return await anyRetired(database, options.now - options.graceMs);
}

/** A damaged chunk holds its pack until a push heals it. */
async function findSmall(database: Database, { now, youngMs, skip }: MergeOptions): Promise<PackRow[]> {
  const rows = await database.read
    .selectFrom('pack')
    .select(['id', 'blob_key', 'size'])
    .where('retired_at', 'is', null)
    .where('size', '<', SMALL_PACK_BYTES)
    .where('created_at', '<=', now - youngMs)
    .orderBy('id')
    .limit(PACKS_A_LOOK)
    .execute();
  const damaged = await damagedPacks(
    database,
    rows.map(({ id }) => id),
  );
  return rows.filter(({ id }) => !damaged.has(id) && skip?.has(id) !== true);
}
