// Database over node:sqlite: one connection writes, a second one reads, so that lookups never wait for an ingest.
import { Kysely, SqliteDialect, type Dialect, type Transaction } from 'kysely';
import { SlipwayError, messageOf } from '../util/errors.ts';
import { retry } from '../util/retry.ts';
import type { Database } from './database.ts';
import { migrate } from './migrations.ts';
import type { Schema } from './schema.ts';
import { openConnection, StatementCache, stopWaiting } from './sqlite-connection.ts';
import { SqliteThreadDialect } from './sqlite-thread-dialect.ts';

const LOCK_RETRIES = { attempts: 120, baseMs: 2, maxMs: 100 }; // about 5 s; other writers hold it for milliseconds

export interface SqliteOptions {
  /**
   * Where transactions run. `here`, in the caller's thread, which then waits for the disk with each commit: for what has
   * nothing else to do meanwhile. `thread`, in one of their own: for servers, whose look-ups go on.
   */
  readonly write?: 'here' | 'thread';
}

/** Opens (and makes) the database file and brings its schema up to date. */
export async function openSqliteDatabase(path: string, options: SqliteOptions = {}): Promise<Database> {
  const connection = openConnection(path, false);
  const migrating = kyselyOver(sameThread(connection));
  await migrate(migrating, 'sqlite');
  stopWaiting(connection);
  const reader = kyselyOver(sameThread(openConnection(path, true)));
  if (options.write !== 'thread') return new SqliteDatabaseHandle(migrating, reader);
  await migrating.destroy();
  return new SqliteDatabaseHandle(kyselyOver(new SqliteThreadDialect(path)), reader);
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

function sameThread(db: ReturnType<typeof openConnection>): Dialect {
  return new SqliteDialect({ database: new StatementCache(db) });
}

function kyselyOver(dialect: Dialect): Kysely<Schema> {
  return new Kysely<Schema>({ dialect });
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
