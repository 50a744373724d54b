// The port for what is known: one typed SQL schema, reached through Kysely. Adapter: sqlite-database.ts.
// test/contract/database.contract.ts holds what callers rely on.
import type { Kysely, Transaction } from 'kysely';
import type { Schema } from './schema.ts';

/** The database. Every adapter passes the same contract suite. */
export interface Database extends AsyncDisposable {
  /** For reads only. Sees everything that was committed before the query started; never waits for a writer. */
  readonly read: Kysely<Schema>;

  /**
   * Runs `work` as one transaction: all of it or nothing, durable against a power cut once the promise resolves.
   * Writers run one after another, so keep `work` short and never await anything but the transaction inside.
   */
  write<T>(work: (transaction: Transaction<Schema>) => Promise<T>): Promise<T>;
}
