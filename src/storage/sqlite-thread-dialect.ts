// Kysely's SQLite dialect with its one connection in another thread (sqlite-writer.ts).
import {
  CompiledQuery,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type DatabaseConnection,
  type DatabaseIntrospector,
  type Dialect,
  type Driver,
  type Kysely,
  type QueryCompiler,
  type QueryResult,
} from 'kysely';
import { SlipwayError } from '../util/errors.ts';
import { SqliteWriter, type WriterThread } from './sqlite-writer.ts';

export class SqliteThreadDialect implements Dialect {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  createDriver(): Driver {
    return new ThreadDriver(this.#path);
  }

  /** Says that there is one connection: Kysely then lets one holder have it at a time. */
  createAdapter(): SqliteAdapter {
    return new SqliteAdapter();
  }

  createQueryCompiler(): QueryCompiler {
    return new SqliteQueryCompiler();
  }

  createIntrospector(db: Kysely<unknown>): DatabaseIntrospector {
    return new SqliteIntrospector(db);
  }
}

class ThreadDriver implements Driver {
  readonly #writer: SqliteWriter;

  constructor(path: string) {
    this.#writer = new SqliteWriter(path);
  }

  async init(): Promise<void> {
    // The thread is made when it is needed.
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    return new ThreadConnection(await this.#writer.hold());
  }

  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('begin'));
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('commit'));
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('rollback'));
  }

  async releaseConnection(): Promise<void> {
    this.#writer.release();
  }

  async destroy(): Promise<void> {
    await this.#writer.close();
  }
}

class ThreadConnection implements DatabaseConnection {
  readonly #thread: WriterThread;

  constructor(thread: WriterThread) {
    this.#thread = thread;
  }

  async executeQuery<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const result = await this.#thread.run(sql, parameters);
    if (result.kind === 'rows') return { rows: result.rows as R[] };
    return {
      rows: [],
      numAffectedRows: BigInt(result.changes),
      insertId: BigInt(result.lastInsertRowid),
    };
  }

  // oxlint-disable-next-line require-yield -- the port asks for it, and nobody streams what is about to be changed
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new SlipwayError('internal', 'Rows cannot be streamed inside of a transaction.');
  }
}
