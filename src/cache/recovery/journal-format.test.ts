// Names, order and lines of the journal.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import { isCode } from '../../util/errors.ts';
import {
  formatJournal,
  formatJournalKey,
  parseJournalKey,
  parseJournalLine,
  planJournalMerge,
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

const sizes = (...values: number[]): { size: number }[] => values.map((size) => ({ size }));
const times = (count: number, size: number): { size: number }[] => sizes(...Array(count).fill(size));

test('planJournalMerge() puts a dozen small neighbours together, and no large one for a few small ones', () => {
  assert.equal(planJournalMerge(times(11, 500)).length, 0);
  assert.equal(planJournalMerge(times(12, 500)).length, 12);
  assert.equal(planJournalMerge([...sizes(200_000), ...times(11, 500)]).length, 12, 'cheap');
  assert.equal(planJournalMerge([...sizes(900_000), ...times(11, 500)]).length, 0);
  assert.equal(planJournalMerge([...sizes(900_000), ...times(12, 500)]).length, 12);
  assert.equal(planJournalMerge([...sizes(900_000), ...times(20, 60_000)]).length, 21);
  assert.equal(planJournalMerge([...times(5, 500), ...sizes(20_000_000), ...times(11, 500)]).length, 0);
  assert.deepEqual(planJournalMerge([]), []);
});

test('planJournalMerge() keeps the journal in a few blobs however long it gets, and copies little', () => {
  let order = sizes();
  let [total, copied] = [0, 0];
  for (let n = 0; n < 20_000; n++) {
    const size = 300 + ((n * 7919) % 20_000);
    total += size;
    order.push({ size });
    const run = planJournalMerge(order);
    if (run.length === 0) continue;
    const merged = run.reduce((sum, blob) => sum + blob.size, 0);
    copied += merged;
    const at = order.indexOf(run[0] as { size: number });
    order = [...order.slice(0, at), { size: merged }, ...order.slice(at + run.length)];
  }
  assert.ok(order.length < 20 + total / (8 * 1024 * 1024), `${order.length} blobs for ${total} bytes`);
  assert.ok(copied < 8 * total, `${copied} bytes copied for ${total}`);
});
