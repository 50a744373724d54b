// Collects garbage from time to time for as long as the server runs. Several servers on one database take turns: the
// lease lets one collect, and whoever finds that it was done lately does nothing.
import { setTimeout as wait } from 'node:timers/promises';
import type { Database } from '../../storage/database.ts';
import { isCode } from '../../util/errors.ts';
import { BORROWED_GRACE_MS, DEFAULT_GARBAGE_SETTINGS } from './collect-garbage.ts';
import { isOverPulledLimit } from '../sources/pulled-figures.ts';
import { unsettledBytesBefore } from './settle-packs.ts';

export interface GarbageSchedule {
  readonly everyMs: number;
  /** Collects once; `conflict` when another process is at it. */
  readonly collect: () => Promise<unknown>;
  readonly onError: (error: unknown) => void;
}

/** How often the clock is looked at: a machine that slept is not a day late. */
const LOOK_MS = 600_000;
const FIRST_LOOK_MS = 60_000;
const JITTER = 0.1;
/** Collections that are early are at least so far apart. */
const EARLY_MS = 1_800_000;
/** A fifth of it, some 50 MB of disk, is not given back for a day otherwise, and every download is that much larger. */
const ENOUGH_UNSETTLED = 256 * 1024 * 1024;

/** Ends when the signal fires. Never rejects: a failed collection is told and tried again at the next look. */
export async function collectRegularly(
  database: Database,
  { everyMs, collect, onError }: GarbageSchedule,
  signal: AbortSignal,
): Promise<void> {
  const period = everyMs * (1 + JITTER * (Math.random() - 0.5)); // servers that started together drift apart
  for (
    let pause = Math.min(FIRST_LOOK_MS, everyMs);
    await slept(pause, signal);
    pause = Math.min(LOOK_MS, everyMs)
  )
    try {
      if (!(await isDue(database, period))) continue;
      await collect();
    } catch (error) {
      if (!signal.aborted && !isCode(error, 'conflict')) onError(error);
    }
}

/** Whether to collect now, given the time between two collections: early when more is kept of upstreams than may be, or when much waits to be settled. */
export async function isDue(database: Database, period: number): Promise<boolean> {
  const now = Date.now();
  const last = await lastCollection(database);
  if (last > now + LOOK_MS) return true; // it was done while the clock was wrong
  if (last <= now - period) return true;
  if (last > now - EARLY_MS) return false;
  if (await isOverPulledLimit(database, now - BORROWED_GRACE_MS)) return true;
  return (await unsettledBytesBefore(database, now - DEFAULT_GARBAGE_SETTINGS.youngMs)) >= ENOUGH_UNSETTLED;
}

async function slept(ms: number, signal: AbortSignal): Promise<boolean> {
  return await wait(ms, true, { signal, ref: false }).catch(() => false);
}

async function lastCollection(database: Database): Promise<number> {
  const row = await database.read
    .selectFrom('garbage_run')
    .select((builder) => builder.fn.max('ended_at').as('at'))
    .executeTakeFirst();
  return row?.at ?? 0;
}
