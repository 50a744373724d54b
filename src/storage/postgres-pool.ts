// What Kysely asks of a pool of pg, with patience: a restart of the server is waited for instead of failing a request.
import type { PostgresPool, PostgresPoolClient } from 'kysely';
import type { Pool } from 'pg';
import { retry, type RetryPolicy } from '../util/retry.ts';
import { SlipwayError, messageOf } from '../util/errors.ts';
import { isLostConnection } from './postgres-failure.ts';

/** About 10 s: longer than a restart, shorter than a client's patience. */
const PATIENCE: RetryPolicy = { attempts: 25, baseMs: 20, maxMs: 600, retryable: isLostConnection };

/** Connections for transactions: only getting one is repeated. */
export class PatientPool implements PostgresPool {
  readonly options: object;
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
    this.options = pool.options;
  }

  async connect(): Promise<PostgresPoolClient> {
    return await retry(PATIENCE, async () => await this.#pool.connect()).catch(unreachable);
  }

  async end(): Promise<void> {
    await this.#pool.end();
  }
}

/** For reads outside of transactions: each is one statement, so a lost connection means asking again on another one. */
export class ReadPool implements PostgresPool {
  readonly options: object;
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
    this.options = pool.options;
  }

  connect(): Promise<PostgresPoolClient> {
    const query = async (text: string, values: readonly unknown[]): Promise<unknown> =>
      await retry(PATIENCE, async () => await this.#pool.query(text, [...values])).catch(unreachable);
    return Promise.resolve({ query, release: () => undefined } as unknown as PostgresPoolClient);
  }

  async end(): Promise<void> {
    await this.#pool.end();
  }
}

function unreachable(error: unknown): never {
  if (!isLostConnection(error)) throw error;
  throw new SlipwayError('unavailable', `The database cannot be reached: ${messageOf(error)}`, {
    cause: error,
  });
}
