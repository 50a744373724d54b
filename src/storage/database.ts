// The port for what is known: one typed SQL schema, reached through Kysely. Adapters: sqlite-database.ts, postgres-database.ts.
// test/contract/database.contract.ts holds what callers rely on.
import type { Kysely, Transaction } from 'kysely';
import type { Schema } from './schema.ts';

/** The database. Every adapter passes the same contract suite. */
export interface Database extends AsyncDisposable {
  /** For reads only. Sees everything that was committed before the query started; never waits for a writer. */
  readonly read: Kysely<Schema>;

  /**
   * Runs `work` as one transaction: all of it or nothing, durable against a power cut once the promise resolves.
   * Transactions act as if they ran one after another, also those of other servers: what `work` read still holds when
   * it commits. `work` may run several times for that, so it changes nothing outside of the transaction. Keep it short
   * and never await anything but the transaction inside.
   */
  write<T>(work: (transaction: Transaction<Schema>) => Promise<T>): Promise<T>;
}
