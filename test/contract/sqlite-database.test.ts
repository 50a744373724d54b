// The SQLite adapter against the Database contract, and the directory lock that stands on SQLite.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { sql } from 'kysely';
import type { Database } from '../../src/storage/database.ts';
import { lockDirectory } from '../../src/storage/directory-lock.ts';
import { openSqliteDatabase } from '../../src/storage/sqlite-database.ts';
import { isCode } from '../../src/util/errors.ts';
import { databaseContract } from './database.contract.ts';

const directory = mkdtempSync(join(tmpdir(), 'slipway-sqlite-'));
after(() => rmSync(directory, { recursive: true, force: true }));
const fresh = (): string => mkdtempSync(join(directory, 'db-'));

const place = async (): Promise<string> => await Promise.resolve(join(fresh(), 'slipway.db'));
databaseContract('SqliteDatabase', place, async (path) => await openSqliteDatabase(path));

const openInThread = async (path: string): Promise<Database> =>
  await openSqliteDatabase(path, { write: 'thread' });

databaseContract('SqliteDatabase that writes in a thread', place, openInThread);

/** Counts to `end` in SQL: a statement that takes as long as one likes. */
const counting = (end: number) =>
  sql<{
    n: number;
  }>`with recursive c(n) as (select 1 union all select n + 1 from c where n < ${end}) select count(*) n from c`;

test('SqliteDatabase that writes in a thread lets its caller go on while a statement runs', async () => {
  await using database = await openInThread(join(fresh(), 'slipway.db'));
  let turns = 0;
  const ticking = setInterval(() => turns++, 5);
  const { rows } = await database
    .write(async (transaction) => await counting(1_000_000).execute(transaction))
    .finally(() => clearInterval(ticking));
  assert.equal(rows[0]?.n, 1_000_000);
  assert.ok(turns > 3, `${turns} turns`);
});

test('SqliteDatabase that writes in a thread has none when nothing is written, and leaves the log empty', async () => {
  const path = join(fresh(), 'slipway.db');
  await using database = await openInThread(path);
  const note = async (value: number): Promise<unknown> =>
    await database.write(
      async (transaction) =>
        await transaction
          .insertInto('journal_state')
          .values({ name: `${value}`, value })
          .execute(),
    );
  await note(1);
  const logBytes = (): number => statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  assert.ok(logBytes() > 0);
  for (let turn = 0; logBytes() > 0; turn++) {
    assert.ok(turn < 300, 'the log is still there');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await note(2);
  assert.equal((await database.read.selectFrom('journal_state').selectAll().execute()).length, 2);
});

test('SqliteDatabase that writes in a thread says why when the thread cannot work', async () => {
  const folder = fresh();
  await using database = await openInThread(join(folder, 'slipway.db'));
  rmSync(folder, { recursive: true });
  const lost = database.write(async (transaction) => await counting(1).execute(transaction));
  await assert.rejects(
    lost,
    (error) => isCode(error, 'unavailable') && /cannot be opened/.test(error.message),
  );
});

test('lockDirectory() lets one holder in at a time', () => {
  const at = fresh();
  {
    using held = lockDirectory(at);
    assert.ok(held);
    assert.throws(
      () => lockDirectory(at),
      (error) => isCode(error, 'unavailable'),
    );
  }
  lockDirectory(at)[Symbol.dispose]();
});
