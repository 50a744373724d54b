// Writes beside the packs what only the database would know: caches, published paths, logs, origins, pins. With it, storage
// alone restores a lost database (rebuild.ts). Changes are noted by the transaction that makes them and written here a
// few seconds later, many in one blob: what a lost database takes with it is at most those seconds.
import { randomBytes } from 'node:crypto';
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import { takeLease } from '../garbage/lease.ts';
import { formatJournal, formatJournalKey, planJournalMerge } from './journal-format.ts';
import { noteEverything, readRecords } from './journal-tables.ts';
import { listWholeJournal } from './read-journal.ts';

const FLUSH_MS = 5_000;
/** Short: until a killed server's lease ends, nobody writes the journal. */
const LEASE_MS = 15_000;
/** Some 3 MB of rows in memory. */
const CHANGES_A_BLOB = 2_000;
const IDS_A_QUERY = 500;

export interface JournalParts {
  readonly database: Database;
  readonly blobs: BlobStore;
}

export class Journal implements AsyncDisposable {
  readonly #parts: JournalParts;
  readonly #onError: (error: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> = Promise.resolve();

  constructor(parts: JournalParts, onError: (error: unknown) => void) {
    this.#parts = parts;
    this.#onError = onError;
  }

  start(): void {
    this.#timer = setInterval(() => void this.flush().catch(this.#onError), FLUSH_MS).unref();
  }

  /** Writes all that was noted so far. One flush at a time; a second call waits and looks again. */
  async flush(): Promise<void> {
    const turn = this.#flushing.then(async () => await flushJournal(this.#parts));
    this.#flushing = turn.catch(() => undefined);
    await turn;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.flush();
  }
}

/** Does nothing while another process does it. */
export async function flushJournal(parts: JournalParts): Promise<void> {
  const { read } = parts.database;
  const any = await read.selectFrom('journal_change').select('id').limit(1).executeTakeFirst();
  if (any === undefined) return;
  await using lease = await takeLease(parts.database, 'journal', LEASE_MS);
  if (lease === undefined) return;
  for (;;) {
    await lease.renew();
    if ((await flushOnce(parts)) < CHANGES_A_BLOB) break;
  }
  await mergeJournal(parts);
}

/** Returns how many changes were written. A crash anywhere leaves them noted, to be written again: that harms nobody. */
async function flushOnce({ database, blobs }: JournalParts): Promise<number> {
  // The revision first: whoever takes a later one reads rows that are at least as new.
  const revision = await nextRevision(database);
  const changes = await database.read
    .selectFrom('journal_change')
    .selectAll()
    .orderBy('id')
    .limit(CHANGES_A_BLOB)
    .execute();
  if (changes.length === 0) return 0;
  const records = await readRecords(database.read, changes);
  if (records.length > 0) await putBlob(blobs, newKey(revision, revision), formatJournal(revision, records));
  await database.write(async (transaction) => {
    for (let from = 0; from < changes.length; from += IDS_A_QUERY) {
      const ids = changes.slice(from, from + IDS_A_QUERY).map(({ id }) => id);
      await transaction.deleteFrom('journal_change').where('id', 'in', ids).execute();
    }
  });
  return changes.length;
}

async function nextRevision(database: Database): Promise<number> {
  return await database.write(async (transaction) => {
    const { value } = await transaction
      .insertInto('journal_state')
      .values({ name: 'revision', value: 1 })
      .onConflict((conflict) =>
        conflict.column('name').doUpdateSet((set) => ({ value: set('journal_state.value', '+', 1) })),
      )
      .returning('value')
      .executeTakeFirstOrThrow();
    return value;
  });
}

/** Puts neighbours together: the number of blobs stays small however long the cache is used. */
async function mergeJournal({ blobs }: JournalParts): Promise<void> {
  const { order, superseded } = await listWholeJournal(blobs);
  for (const { key } of superseded) await blobs.delete(key); // a merge was cut off before it had removed them
  const run = planJournalMerge(order);
  if (run.length === 0) return;
  const parts: Buffer[] = [];
  for (const { key, size } of run) {
    const part = await blobs.read(key, 0, size);
    if (part === undefined) return; // fsck's business
    parts.push(part);
  }
  await putBlob(blobs, newKey(run[0]?.first ?? 0, run.at(-1)?.last ?? 0), Buffer.concat(parts));
  for (const { key } of run) await blobs.delete(key);
}

/** Notes every row: the journal is then written anew, after what it holds. */
export async function describeAgain(database: Database): Promise<void> {
  await database.write(async (transaction) => await noteEverything(transaction));
}

async function putBlob(blobs: BlobStore, key: string, bytes: Buffer): Promise<void> {
  await using writer = await blobs.create(key);
  await writer.write(bytes);
  await writer.commit();
}

function newKey(first: number, last: number): string {
  return formatJournalKey(first, last, randomBytes(4).toString('hex'));
}
