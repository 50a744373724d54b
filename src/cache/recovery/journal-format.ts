// A journal blob: one line of JSON for each row that changed, zstd with a checksum. docs/FORMATS.md shows one by hand.
// Rows name each other by what outlives a database (a cache by its name, a content by its hash), never by ids.
import { constants, zstdCompressSync } from 'node:zlib';
import { SlipwayError } from '../../util/errors.ts';

export const JOURNAL_PREFIX = 'journal/';
const MIB = 1024 * 1024;
const FORMAT = 'slipway-journal';
const VERSION = 1;

export type JournalValue = string | number | null | { readonly hex: string };

/** `row`: what it is now; `gone`: what named the row that is there no more. */
export interface JournalRecord {
  readonly table: string;
  readonly row?: Readonly<Record<string, JournalValue>>;
  readonly gone?: Readonly<Record<string, JournalValue>>;
}

/** Which revisions a blob holds: several once blobs were put together. */
export interface JournalRange {
  readonly key: string;
  readonly first: number;
  readonly last: number;
}

export function formatJournalKey(first: number, last: number, random: string): string {
  return `${JOURNAL_PREFIX}${padded(first)}-${padded(last)}-${random}`;
}

/** `undefined` for a key that is not ours. */
export function parseJournalKey(key: string): JournalRange | undefined {
  const [, first, last] = /^journal\/(\d{12})-(\d{12})-[0-9a-f]+$/.exec(key) ?? [];
  return first === undefined || last === undefined
    ? undefined
    : { key, first: Number(first), last: Number(last) };
}

/** In the order in which they are to be read, without those whose revisions another one holds as well. */
export function planReplay<Range extends JournalRange>(ranges: readonly Range[]): Range[] {
  const kept: Range[] = [];
  for (const range of ranges.toSorted((a, b) => a.first - b.first || b.last - a.last))
    if (range.last > (kept.at(-1)?.last ?? 0)) kept.push(range);
  return kept;
}

/** So many neighbours are put together, up to a size that is read in one go. */
const MERGED_BLOBS = 12;
const MERGED_BYTES = 16 * MIB;
/** So much is copied for any number of small ones. */
const CHEAP_BYTES = 256 * 1024;

/**
 * The longest run of small neighbours that is worth putting together; empty when none is. Neighbours, because what holds a
 * range of revisions must hold all of them. None in it is larger than the others together: bytes are copied a few times in all.
 */
export function planJournalMerge<Blob extends { readonly size: number }>(order: readonly Blob[]): Blob[] {
  let longest: Blob[] = [];
  for (let start = 0; start < order.length - longest.length; start++) {
    let [sum, largest, fits] = [0, 0, 0];
    for (let end = start; end < order.length; end++) {
      const size = order[end]?.size ?? 0;
      if (sum + size > MERGED_BYTES) break;
      sum += size;
      largest = Math.max(largest, size);
      if (largest <= Math.max(sum - largest, CHEAP_BYTES)) fits = end - start + 1;
    }
    if (fits > longest.length) longest = order.slice(start, start + fits);
  }
  return longest.length >= MERGED_BLOBS ? longest : [];
}

/** One frame; frames may be put one after another. */
export function formatJournal(revision: number, records: readonly JournalRecord[]): Buffer {
  const head = { format: FORMAT, version: VERSION, revision };
  const lines = [head, ...records].map((line) => `${JSON.stringify(line)}\n`).join('');
  return zstdCompressSync(lines, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
}

/** One line of a decompressed journal; `undefined` for a head. */
export function parseJournalLine(line: string): JournalRecord | undefined {
  const parsed = JSON.parse(line) as Record<string, unknown>;
  if (typeof parsed['table'] === 'string') return parsed as unknown as JournalRecord;
  if (parsed['format'] === FORMAT && parsed['version'] === VERSION) return undefined;
  throw new SlipwayError('invalid', 'The journal was written by a newer Slipway.', {
    next: 'Rebuild with the version that wrote it, or a newer one.',
  });
}

function padded(revision: number): string {
  return String(revision).padStart(12, '0');
}
