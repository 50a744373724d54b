// A cache server as a process of its own, to be killed: it takes uploads, collects garbage with no grace at all, merges
// packs and writes the journal, all at once. Loads its code, then waits for orders (crash-messages.ts) over IPC.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { collectGarbage, DEFAULT_GARBAGE_SETTINGS } from '../../../src/cache/garbage/collect-garbage.ts';
import { fsck } from '../../../src/cache/recovery/fsck.ts';
import { flushJournal } from '../../../src/cache/recovery/journal.ts';
import { mergePacks } from '../../../src/cache/garbage/merge-packs.ts';
import { addPin } from '../../../src/cache/garbage/pins.ts';
import { rebuildDatabase } from '../../../src/cache/recovery/rebuild.ts';
import { parseStorePath } from '../../../src/nix/store-path.ts';
import { openDiskBlobStore, removeUnfinished } from '../../../src/storage/disk-blob-store.ts';
import { openPostgresDatabase } from '../../../src/storage/postgres-database.ts';
import { openS3BlobStore } from '../../../src/storage/s3-blob-store.ts';
import { openSqliteDatabase } from '../../../src/storage/sqlite-database.ts';
import { sleep } from '../../../src/util/deadline.ts';
import { isCode, messageOf } from '../../../src/util/errors.ts';
import { issueToken, openCacheServer, type CacheServer } from '../../contract/cache-server.ts';
import type { TestStorage } from '../../contract/cache-storage.ts';
import type { CrashAnswer, CrashOrder, CrashPlace } from './crash-messages.ts';
import { KillSwitch, withKillSwitch } from './kill-switch.ts';

const SETTINGS = {
  ...DEFAULT_GARBAGE_SETTINGS,
  graceMs: 0,
  chunkGraceMs: 0,
  packGraceMs: 0,
  youngMs: 0,
  settleBytes: 0,
};

const killer = new KillSwitch();
let storage: TestStorage | undefined;
let server: CacheServer | undefined;
const closing = new AbortController();
let chores: Promise<void> = Promise.resolve();

process.on('message', (order: CrashOrder) => {
  obey(order).then(
    (answer) => process.send?.(answer),
    (error: unknown) => process.send?.({ kind: 'failed', message: messageOf(error) } satisfies CrashAnswer),
  );
});
process.on('disconnect', () => process.exit()); // the suite is gone

async function obey(order: CrashOrder): Promise<CrashAnswer> {
  if (order.kind === 'open') return await open(order);
  if (server === undefined || storage === undefined) throw new Error('not open yet');
  if (order.kind === 'pin') await addPin(storage.database, 'crash', [parseStorePath(order.storePath)]);
  else if (order.kind === 'fsck')
    return { kind: 'fsck', report: await fsck(storage, { full: true, repair: false }) };
  else if (order.kind === 'work') {
    killer.arm(order.dieAt ?? Infinity);
    chores = work(storage, order.collect);
    chores.catch((error: unknown) => process.send?.({ kind: 'failed', message: messageOf(error) }));
  } else {
    closing.abort();
    await chores;
    await dropLeases(storage);
    await flushJournal(storage);
    process.disconnect();
    process.exit();
  }
  return { kind: 'done' };
}

async function open({
  place,
  rebuild,
}: {
  readonly place: CrashPlace;
  readonly rebuild: boolean;
}): Promise<CrashAnswer> {
  mkdirSync(place.data, { recursive: true });
  storage = withKillSwitch(await openStorage(place), killer);
  if (rebuild) {
    const { brokenPacks, brokenJournals } = await rebuildDatabase(storage);
    if (brokenPacks.length + brokenJournals.length > 0)
      throw new Error(`rebuild found ${[...brokenPacks, ...brokenJournals].join(', ')} broken`);
  }
  server = await openCacheServer(place.data, {
    storage,
    shared: place.shared === true,
    ...(place.keys !== undefined && { keysDirectory: place.keys }),
  });
  const { caches } = server.cache;
  // Nothing keeps a path in here but a pin, or what a pinned one needs.
  if ((await caches.find('brief')) === undefined)
    await caches.create({
      name: 'brief',
      isPublic: true,
      priority: 30,
      storeDir: '/nix/store',
      closed: true,
    });
  await storage.database.write(
    async (transaction) =>
      await transaction.updateTable('cache').set({ retention_ms: 1 }).where('name', '=', 'brief').execute(),
  );
  return { kind: 'open', url: server.url, token: await issueToken(server, 'write:main', 'write:brief') };
}

async function openStorage({ data, postgres, s3 }: CrashPlace): Promise<TestStorage> {
  const database =
    postgres === undefined
      ? await openSqliteDatabase(join(data, 'slipway.db'), { write: 'thread' })
      : await openPostgresDatabase({ url: postgres });
  if (s3 === undefined) {
    const blobs = await openDiskBlobStore(join(data, 'packs'));
    await removeUnfinished(join(data, 'packs'));
    return { database, blobs, [Symbol.asyncDispose]: async () => await database[Symbol.asyncDispose]() };
  }
  const blobs = await openS3BlobStore(s3);
  return { database, blobs, [Symbol.asyncDispose]: async () => await database[Symbol.asyncDispose]() };
}

/** A killed server's leases would stop the next one for a while: the suite kills more often than that. */
async function dropLeases({ database }: TestStorage): Promise<void> {
  await database.write(async (transaction) => await transaction.deleteFrom('lease').execute());
}

async function work(parts: TestStorage, collect: boolean): Promise<void> {
  if (collect) await dropLeases(parts);
  const often = { graceMs: 0, youngMs: 0, signal: closing.signal };
  while (!closing.signal.aborted) {
    await tolerate(async () => await flushJournal(parts));
    await tolerate(async () => void (await mergePacks(parts, { ...often, now: Date.now() })));
    if (collect)
      await tolerate(
        async () => void (await collectGarbage(parts, { settings: SETTINGS, signal: closing.signal })),
      );
    await sleep(30);
  }
}

/** Another server does it, or the suite has taken the database or the bucket away for a moment. */
async function tolerate(chore: () => Promise<void>): Promise<void> {
  await chore().catch((error: unknown) => {
    if (!closing.signal.aborted && !isCode(error, 'conflict') && !isCode(error, 'unavailable')) throw error;
  });
}
