// Reads the journal back: its blobs in order, and the records of one in batches.
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import type { BlobStore } from '../../storage/blob-store.ts';
import { SlipwayError, isCode } from '../../util/errors.ts';
import { decompressed } from '../ingest/decompress.ts';
import {
  JOURNAL_PREFIX,
  parseJournalKey,
  parseJournalLine,
  planReplay,
  type JournalRange,
  type JournalRecord,
} from './journal-format.ts';

const RECORDS_A_BATCH = 500;
const READ_BYTES = 1024 * 1024;

export interface JournalBlob extends JournalRange {
  readonly size: number;
}

/** The journal in the order in which it is to be read. */
export async function listJournal(blobs: BlobStore): Promise<JournalBlob[]> {
  return (await listWholeJournal(blobs)).order;
}

/** `superseded`: blobs whose revisions another one holds as well. */
export async function listWholeJournal(
  blobs: BlobStore,
): Promise<{ readonly order: JournalBlob[]; readonly superseded: readonly JournalBlob[] }> {
  const found: JournalBlob[] = [];
  for await (const { key, size } of blobs.list(JOURNAL_PREFIX)) {
    const range = parseJournalKey(key);
    if (range !== undefined) found.push({ ...range, size });
  }
  const order = planReplay(found);
  const read = new Set(order);
  return { order, superseded: found.filter((blob) => !read.has(blob)) };
}

/** Up to the first byte that cannot be read; `broken` is then the last that comes. */
export async function* readJournal(
  blobs: BlobStore,
  { key, size }: JournalBlob,
): AsyncGenerator<JournalRecord[] | 'broken'> {
  let batch: JournalRecord[] = [];
  try {
    const text = Readable.from(decompressed(readWhole(blobs, key, size), 'zstd'));
    for await (const line of createInterface({ input: text, crlfDelay: Infinity })) {
      const record = parseJournalLine(line);
      if (record !== undefined) batch.push(record);
      if (batch.length < RECORDS_A_BATCH) continue;
      yield batch;
      batch = [];
    }
  } catch (error) {
    if (isCode(error, 'invalid')) throw error;
    if (batch.length > 0) yield batch;
    yield 'broken';
    return;
  }
  if (batch.length > 0) yield batch;
}

async function* readWhole(blobs: BlobStore, key: string, size: number): AsyncIterable<Buffer> {
  for (let at = 0; at < size; at += READ_BYTES) {
    const piece = await blobs.read(key, at, Math.min(READ_BYTES, size - at));
    if (piece === undefined) throw new SlipwayError('internal', `The journal ${key} is cut off.`);
    yield piece;
  }
}
