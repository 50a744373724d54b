// Names, order and lines of the journal.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import { isCode } from '../util/errors.ts';
import {
  formatJournal,
  formatJournalKey,
  parseJournalKey,
  parseJournalLine,
  planReplay,
} from './journal-format.ts';

const range = (first: number, last: number) => ({ key: formatJournalKey(first, last, 'aa'), first, last });

test('parseJournalKey() inverts formatJournalKey()', () => {
  assert.deepEqual(parseJournalKey(formatJournalKey(7, 12, '0f')), {
    key: 'journal/000000000007-000000000012-0f',
    first: 7,
    last: 12,
  });
  assert.equal(parseJournalKey('journal/other'), undefined);
});

test('planReplay() orders by revision and leaves out what was put together', () => {
  const ranges = [range(9, 9), range(2, 2), range(1, 4), range(3, 3), range(5, 5), range(1, 1)];
  assert.deepEqual(
    planReplay(ranges).map(({ first, last }) => [first, last]),
    [
      [1, 4],
      [5, 5],
      [9, 9],
    ],
  );
});

test('formatJournal() writes lines that parseJournalLine() reads, after a head', () => {
  const records = [{ table: 'pin', row: { name: 'a', hash: { hex: 'ff' }, at: 1, none: null } }];
  const lines = zstdDecompressSync(formatJournal(3, records)).toString().trim().split('\n');
  assert.deepEqual(lines.map(parseJournalLine), [undefined, ...records]);
});

test('parseJournalLine() refuses a version that it does not know', () => {
  assert.throws(
    () => parseJournalLine('{"format":"slipway-journal","version":2,"revision":1}'),
    (error) => isCode(error, 'invalid'),
  );
});
