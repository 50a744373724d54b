// Database over PostgreSQL, for several servers on one database. Isolation is SERIALIZABLE: what a transaction read is
// still true when it commits, as if writers ran one after another; one that lost such a race runs again.
// Facts: PostgreSQL 15 manual, 13.2.3 (serialization), 13.3 (LOCK takes no snapshot), appendix A (codes).
import { Kysely, PostgresDialect, sql, type Transaction } from 'kysely';
import type { Pool, PoolConfig } from 'pg';
import { SlipwayError, messageOf } from '../util/errors.ts';
import { retry } from '../util/retry.ts';
import type { Database } from './database.ts';
import { migrate } from './migrations.ts';
import { PatientPool, ReadPool } from './postgres-pool.ts';
import { isLostConnection, sqlState } from './postgres-failure.ts';
import type { Schema } from './schema.ts';

const READERS = 8;
const WRITERS = 4;
const CONNECT_TIMEOUT_MS = 5_000;
/** No statement of ours comes near; one that does is ended by the server and fails its request. */
const STATEMENT_TIMEOUT_MS = 120_000;
const IDLE_TIMEOUT_MS = 60_000;
/** A migration may wait for the one of another server that starts at the same time. */
const MIGRATION_CONNECTIONS = 2;

// A write that loses four races takes the turn for itself alone, so it ends however busy the others are.
const WRITE_RETRIES = { attempts: 20, baseMs: 5, maxMs: 200 };
const SHARED_ATTEMPTS = 4;
/** PatientPool waits for a restart; a connection that is lost again and again is given up. */
const LOST_ATTEMPTS = 3;
/** Whoever inserted the same row first may make this a lost race; twice the same answer makes it a fact. */
const DUPLICATE_ATTEMPTS = 3;
const SERIALIZATION_FAILURE = '40001';
const DEADLOCK = '40P01';
const UNIQUE_VIOLATION = '23505';
/** int8 and numeric come as text: ours are counts, sizes and times below 2^53. */
const NUMBER_TYPES: ReadonlySet<number> = new Set([20, 1700]);

export interface PostgresOptions {
  /** `postgres://user@host:port/database?sslmode=…`; a unix socket is `postgres://user@/database?host=/run/postgresql`. */
  readonly url: string;
  readonly password?: string | undefined;
}

/** Connects and brings the schema up to date; several servers may start at once. */
export async function openPostgresDatabase(options: PostgresOptions): Promise<Database> {
  const { default: pg } = await import('pg');
  const open = (max: number): Pool => {
    const pool = new pg.Pool(poolConfig(options, max, pg.types.getTypeParser));
    // A connection that dies while idle is replaced by the next query; without a listener it would end the process.
    pool.on('error', () => undefined);
    // So would one that dies while a transaction holds it and no query is under way: the next query then fails.
    pool.on('connect', (client) => client.on('error', () => undefined));
    return pool;
  };
  await migrateOnce(open(MIGRATION_CONNECTIONS));
  const writer = kyselyOver(new PatientPool(open(WRITERS)));
  return new PostgresDatabaseHandle(writer, kyselyOver(new ReadPool(open(READERS))));
}

class PostgresDatabaseHandle implements Database {
  readonly read: Kysely<Schema>;
  readonly #writer: Kysely<Schema>;

  constructor(writer: Kysely<Schema>, reader: Kysely<Schema>) {
    this.#writer = writer;
    this.read = reader;
  }

  async write<T>(work: (transaction: Transaction<Schema>) => Promise<T>): Promise<T> {
    const attempts = new WriteAttempts();
    try {
      return await retry(
        { ...WRITE_RETRIES, retryable: (error) => attempts.mayRepeat(error) },
        async (attempt) => await this.#attempt(work, attempt, attempts),
      );
    } catch (error) {
      throw asDatabaseError(error);
    }
  }

  async #attempt<T>(
    work: (transaction: Transaction<Schema>) => Promise<T>,
    attempt: number,
    attempts: WriteAttempts,
  ): Promise<T> {
    attempts.begin();
    return await this.#writer
      .transaction()
      .setIsolationLevel('serializable')
      .execute(async (transaction) => {
        await takeTurn(transaction, attempt > SHARED_ATTEMPTS);
        const result = await work(transaction);
        attempts.workDone();
        return result;
      });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.read.destroy();
    await this.#writer.destroy();
  }
}

/** Which failures of one write may be answered by running it again. */
class WriteAttempts {
  #finished = false;
  #duplicates = 0;
  #losses = 0;

  begin(): void {
    this.#finished = false;
  }

  workDone(): void {
    this.#finished = true;
  }

  mayRepeat(error: unknown): boolean {
    const state = sqlState(error);
    if (state === SERIALIZATION_FAILURE || state === DEADLOCK) return true;
    if (state === UNIQUE_VIOLATION) return ++this.#duplicates < DUPLICATE_ATTEMPTS;
    // Once COMMIT was sent, a lost connection leaves open whether it counted: running it again could do it twice.
    return !this.#finished && isLostConnection(error) && ++this.#losses < LOST_ATTEMPTS;
  }
}

/**
 * Writers share the turn; one that keeps losing takes it alone. The table is never written after the first start, and
 * unlike an advisory lock's SELECT, LOCK takes no snapshot: what is read afterwards is what the last holder committed.
 */
async function takeTurn(transaction: Transaction<Schema>, alone: boolean): Promise<void> {
  await (
    alone
      ? sql`lock table kysely_migration_lock in exclusive mode`
      : sql`lock table kysely_migration_lock in share mode`
  ).execute(transaction);
}

function kyselyOver(pool: PatientPool | ReadPool): Kysely<Schema> {
  return new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) });
}

async function migrateOnce(pool: Pool): Promise<void> {
  const db = new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) });
  try {
    await sql`select 1`.execute(db).catch((error: unknown) => {
      throw new SlipwayError('unavailable', `The database cannot be reached: ${messageOf(error)}`, {
        next: 'Check "database" and "databasePassword" of the configuration, and that PostgreSQL runs.',
        cause: error,
      });
    });
    await migrate(db, 'postgres');
  } finally {
    await db.destroy();
  }
}

type TypeParsers = (oid: number, format?: 'text' | 'binary') => (value: string) => unknown;

function poolConfig({ url, password }: PostgresOptions, max: number, known: TypeParsers): PoolConfig {
  const getTypeParser = (oid: number, format?: 'text' | 'binary'): ((value: string) => unknown) =>
    NUMBER_TYPES.has(oid) && format !== 'binary' ? Number : known(oid, format);
  return {
    ...(password !== undefined && { password }),
    connectionString: url,
    max,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    idle_in_transaction_session_timeout: STATEMENT_TIMEOUT_MS,
    keepAlive: true,
    application_name: 'slipway',
    types: { getTypeParser },
  };
}

/** What passes by itself or with room on the disk is `unavailable`; all else is a fault of ours. */
function asDatabaseError(error: unknown): unknown {
  if (error instanceof SlipwayError) return error;
  const state = sqlState(error);
  const lost = isLostConnection(error);
  if (state === undefined && !lost) return error;
  const passing = lost || state === SERIALIZATION_FAILURE || state === DEADLOCK || state?.startsWith('53');
  return new SlipwayError(
    passing === true ? 'unavailable' : 'internal',
    `The database refused: ${messageOf(error)}`,
    { cause: error },
  );
}
