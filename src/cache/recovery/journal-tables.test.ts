// The rows of the journal are read beside what else a server does.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openSqliteDatabase } from '../../storage/sqlite-database.ts';
import { readRecords } from './journal-tables.ts';

test('readRecords() of thousands of changes lets requests through between them', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-journal-'));
  try {
    await using database = await openSqliteDatabase(join(folder, 'slipway.db'));
    const changes = Array.from({ length: 2000 }, (_, n) => ({
      table_name: 'pin',
      row_key: JSON.stringify([`pin-${n}`, '0'.repeat(32)]),
    }));
    let turns = 0;
    const turn = (): void => {
      turns++;
      next = setImmediate(turn);
    };
    let next = setImmediate(turn);
    const records = await readRecords(database.read, changes);
    clearImmediate(next);
    assert.equal(records.length, 2000);
    assert.ok(turns >= 90, `${turns} turns of the event loop`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
