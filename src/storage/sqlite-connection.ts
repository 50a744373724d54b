// One connection to an SQLite file, and its prepared statements as Kysely's SQLite dialect asks for them.
// WAL with synchronous=FULL: a committed transaction survives a power cut.
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import type { SqliteDatabase, SqliteStatement } from 'kysely';
import { LRUCache } from 'lru-cache';
import { SlipwayError, messageOf } from '../util/errors.ts';

// SQLite waits for a lock by blocking the whole thread, so only opening does that; transactions wait in `retry`.
const OPEN_TIMEOUT_MS = 5_000;
const PREPARED_STATEMENTS = 200;

/** Opens (and makes) the file. A connection that writes still waits for locks: see `stopWaiting`. */
export function openConnection(path: string, readOnly: boolean): DatabaseSync {
  try {
    const db = new DatabaseSync(path, {
      readOnly,
      timeout: OPEN_TIMEOUT_MS,
      enableForeignKeyConstraints: true,
    });
    if (!readOnly) db.exec('pragma journal_mode = wal; pragma synchronous = full');
    return db;
  } catch (error) {
    throw new SlipwayError('unavailable', `The database ${path} cannot be opened: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** From now on a transaction that finds the file locked fails at once. */
export function stopWaiting(db: DatabaseSync): void {
  db.exec('pragma busy_timeout = 0');
}

/** The part of better-sqlite3's interface that Kysely's SQLite dialect asks for. */
export class StatementCache implements SqliteDatabase {
  readonly #db: DatabaseSync;
  readonly #prepared = new LRUCache<string, Statement>({ max: PREPARED_STATEMENTS });

  constructor(db: DatabaseSync) {
    this.#db = db;
  }

  prepare(sql: string): SqliteStatement {
    const known = this.#prepared.get(sql);
    if (known) return known;
    // Kysely begins with a plain BEGIN, which takes the write lock late and may then fail instead of waiting.
    const statement = new Statement(this.#db.prepare(sql === 'begin' ? 'begin immediate' : sql));
    this.#prepared.set(sql, statement);
    return statement;
  }

  close(): void {
    this.#prepared.clear();
    this.#db.close();
  }
}

class Statement implements SqliteStatement {
  readonly reader: boolean;
  readonly #statement: StatementSync;

  constructor(statement: StatementSync) {
    this.#statement = statement;
    this.reader = statement.columns().length > 0;
  }

  all(parameters: readonly unknown[]): unknown[] {
    return this.#statement.all(...(parameters as SQLInputValue[]));
  }

  run(parameters: readonly unknown[]): { changes: number | bigint; lastInsertRowid: number | bigint } {
    return this.#statement.run(...(parameters as SQLInputValue[]));
  }

  iterate(parameters: readonly unknown[]): IterableIterator<unknown> {
    return this.#statement.iterate(...(parameters as SQLInputValue[]));
  }
}
