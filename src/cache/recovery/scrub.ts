// Looks through all packs in the background, slowly, again and again: disks and object stores lose bits silently, and a path
// that is damaged should be known before a host needs it. Where it was is remembered over restarts.
import { setTimeout as sleep } from 'node:timers/promises';
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import { markIncompleteContents } from './content-health.ts';
import { takeLease } from '../garbage/lease.ts';
import { markDamagedChunks, verifyPack } from './verify-pack.ts';

/** After a round, and when another server does it. */
const REST_MS = 3600_000;

export interface ScrubOptions {
  readonly database: Database;
  readonly blobs: BlobStore;
  readonly bytesPerSecond: number;
  /** Chunks were found that are not what they should be; their paths are absent from now on. */
  readonly onDamage: (found: { readonly pack: string; readonly chunks: number }) => void;
  readonly onError: (error: unknown) => void;
}

/** Runs until it is disposed. */
export function startScrub(options: ScrubOptions): AsyncDisposable {
  const closing = new AbortController();
  const running = (async () => {
    while (!closing.signal.aborted) {
      await scrubRound(options, closing.signal).catch((error: unknown) => {
        if (!closing.signal.aborted) options.onError(error);
      });
      await sleep(REST_MS, undefined, { ref: false, signal: closing.signal }).catch(() => undefined);
    }
  })();
  return {
    [Symbol.asyncDispose]: async () => {
      closing.abort();
      await running;
    },
  };
}

/** From where the last round was to the last pack. Returns how many packs it looked through. */
export async function scrubRound(options: ScrubOptions, signal: AbortSignal): Promise<number> {
  await using lease = await takeLease(options.database, 'scrub');
  if (lease === undefined) return 0;
  for (let packs = 0; ; packs++) {
    await lease.renew();
    const pack = await nextPack(options.database);
    await remember(options.database, pack?.id ?? 0);
    if (pack === undefined) return packs;
    const { damaged } = await verifyPack(options, pack, {
      deep: false,
      bytesPerSecond: options.bytesPerSecond,
      signal,
    });
    if (damaged.length === 0) continue;
    const chunks = await markDamagedChunks(options.database, pack, damaged);
    if (chunks === 0) continue; // known, or moved meanwhile
    await markIncompleteContents(options.database);
    options.onDamage({ pack: pack.blob_key, chunks });
  }
}

async function nextPack({ read }: Database) {
  const after = await read
    .selectFrom('journal_state')
    .select('value')
    .where('name', '=', 'scrub')
    .executeTakeFirst();
  return await read
    .selectFrom('pack')
    .select(['id', 'blob_key'])
    .where('id', '>', after?.value ?? 0)
    .where('retired_at', 'is', null)
    .orderBy('id')
    .limit(1)
    .executeTakeFirst();
}

async function remember(database: Database, value: number): Promise<void> {
  await database.write(
    async (transaction) =>
      await transaction
        .insertInto('journal_state')
        .values({ name: 'scrub', value })
        .onConflict((conflict) => conflict.column('name').doUpdateSet({ value }))
        .execute(),
  );
}
