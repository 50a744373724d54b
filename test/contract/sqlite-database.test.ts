// The SQLite adapter against the Database contract, and the directory lock that stands on SQLite.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { lockDirectory } from '../../src/storage/directory-lock.ts';
import { openSqliteDatabase } from '../../src/storage/sqlite-database.ts';
import { isCode } from '../../src/util/errors.ts';
import { databaseContract } from './database.contract.ts';

const directory = mkdtempSync(join(tmpdir(), 'slipway-sqlite-'));
after(() => rmSync(directory, { recursive: true, force: true }));
const fresh = (): string => mkdtempSync(join(directory, 'db-'));

databaseContract(
  'SqliteDatabase',
  () => Promise.resolve(join(fresh(), 'slipway.db')),
  async (path) => await openSqliteDatabase(path),
);

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
