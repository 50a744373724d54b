// Database over node:sqlite: one connection writes, a second one reads, so that lookups never wait for an ingest.
// WAL with synchronous=FULL: a committed transaction survives a power cut.
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { Kysely, SqliteDialect, type SqliteDatabase, type SqliteStatement, type Transaction } from 'kysely';
import { LRUCache } from 'lru-cache';
import { SlipwayError, messageOf } from '../util/errors.ts';
import { retry } from '../util/retry.ts';
import type { Database } from './database.ts';
import { migrate } from './migrations.ts';
import type { Schema } from './schema.ts';

// SQLite waits for a lock by blocking the whole process, so only opening does that; transactions wait in `retry`.
const OPEN_TIMEOUT_MS = 5_000;
const LOCK_RETRIES = { attempts: 120, baseMs: 2, maxMs: 100 }; // about 5 s; other writers hold it for milliseconds
const PREPARED_STATEMENTS = 200;

/** Opens (and makes) the database file and brings its schema up to date. */
export async function openSqliteDatabase(path: string): Promise<Database> {
  const connection = openConnection(path, false);
  const writer = kyselyOver(connection);
  await migrate(writer, 'sqlite');
  connection.exec('pragma busy_timeout = 0');
  return new SqliteDatabaseHandle(writer, kyselyOver(openConnection(path, true)));
}

class SqliteDatabaseHandle implements Database {
  readonly read: Kysely<Schema>;
  readonly #writer: Kysely<Schema>;

  constructor(writer: Kysely<Schema>, reader: Kysely<Schema>) {
    this.#writer = writer;
    this.read = reader;
  }

  async write<T>(work: (transaction: Transaction<Schema>) => Promise<T>): Promise<T> {
    let started = false; // a lock is only ever missing at BEGIN, before any of `work` has run
    const attempt = async (): Promise<T> =>
      await this.#writer.transaction().execute(async (transaction) => {
        started = true;
        return await work(transaction);
      });
    try {
      return await retry({ ...LOCK_RETRIES, retryable: (error) => !started && isLocked(error) }, attempt);
    } catch (error) {
      throw asDatabaseError(error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.read.destroy();
    await this.#writer.destroy();
  }
}

function openConnection(path: string, readOnly: boolean): DatabaseSync {
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

function kyselyOver(db: DatabaseSync): Kysely<Schema> {
  return new Kysely<Schema>({ dialect: new SqliteDialect({ database: new StatementCache(db) }) });
}

/** The part of better-sqlite3's interface that Kysely's SQLite dialect asks for. */
class StatementCache implements SqliteDatabase {
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

/** Lock waits and a full disk pass by themselves or with room; all else is a fault of ours. */
function asDatabaseError(error: unknown): unknown {
  const code = primaryCode(error);
  if (code === undefined) return error;
  const passing = [5, 6, 10, 13].includes(code); // SQLITE_BUSY, LOCKED, IOERR, FULL
  return new SlipwayError(passing ? 'unavailable' : 'internal', `The database refused: ${messageOf(error)}`, {
    cause: error,
  });
}

function isLocked(error: unknown): boolean {
  return primaryCode(error) === 5;
}

function primaryCode(error: unknown): number | undefined {
  return error instanceof Error && 'errcode' in error ? Number(error.errcode) & 0xff : undefined;
}
