// Collects garbage for as long as the server runs, in a thread of its own (garbage-worker.ts).
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { ServerConfig } from '../api/server-config.ts';
import { DEFAULT_GARBAGE_SETTINGS } from '../cache/garbage/collect-garbage.ts';
import { collectRegularly } from '../cache/garbage/garbage-schedule.ts';
import type { Database } from '../storage/database.ts';
import { SlipwayError } from '../util/errors.ts';
import type { GarbageReply, GarbageTask } from './garbage-worker.ts';

/** What a page of rows leaves behind is looked for early: by default, V8 lets it pile up to 100 MB. */
const LIMITS = { maxYoungGenerationSizeMb: 16 };
/** A thread that was told to stop looks at that between two pages; one that waits longer for its storage is cut off. */
const STOP_MS = 10_000;

export interface CollectBesideParts {
  readonly database: Database;
  /** Writes down the uses that this process remembers. */
  readonly flushUses: () => Promise<void>;
  readonly onError: (error: unknown) => void;
}

/** Ends when the signal fires; never rejects. */
export async function collectBeside(
  { database, flushUses, onError }: CollectBesideParts,
  config: ServerConfig,
  signal: AbortSignal,
): Promise<void> {
  const { gc } = config;
  if (gc.every === 0) return;
  const settings = {
    ...DEFAULT_GARBAGE_SETTINGS,
    roots: { releases: gc.releases, generations: gc.generations },
    keepMs: gc.keep === 0 ? undefined : gc.keep * 1000,
    graceMs: gc.grace * 1000,
  };
  const collect = async (): Promise<void> => {
    await flushUses();
    await collectInThread({ config, settings }, signal);
  };
  await collectRegularly(database, { everyMs: gc.every * 1000, collect, onError }, signal);
}

async function collectInThread(task: GarbageTask, signal: AbortSignal): Promise<void> {
  const thread = new Worker(new URL('garbage-worker.ts', import.meta.url), {
    workerData: task,
    resourceLimits: LIMITS,
  });
  const ended = once(thread, 'exit');
  let cut: NodeJS.Timeout | undefined;
  const stop = (): void => {
    thread.postMessage('stop', []);
    cut = setTimeout(() => void thread.terminate(), STOP_MS);
  };
  signal.addEventListener('abort', stop, { once: true });
  try {
    const [failure] = (await Promise.race([once(thread, 'message'), diedSilently(ended)])) as [
      GarbageReply | undefined,
    ];
    if (failure !== undefined)
      throw new SlipwayError(failure.code, failure.message, {
        ...(failure.next !== undefined && { next: failure.next }),
      });
    await ended;
  } finally {
    signal.removeEventListener('abort', stop);
    clearTimeout(cut);
  }
}

/** Rejects: a thread that is done says so before it ends. */
async function diedSilently(ended: Promise<unknown>): Promise<never> {
  await ended;
  throw new SlipwayError('internal', 'The thread that collects garbage ended without a word.');
}
