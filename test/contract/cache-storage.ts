// The storage below a tested cache server: SQLite, or a real PostgreSQL when the running test file asks for it.
import { join } from 'node:path';
import { openDiskBlobStore, type DiskBlobStore } from '../../src/storage/disk-blob-store.ts';
import type { Database } from '../../src/storage/database.ts';
import { openPostgresDatabase } from '../../src/storage/postgres-database.ts';
import { openSqliteDatabase } from '../../src/storage/sqlite-database.ts';
import { openPostgresServer, type PostgresServer } from './postgres-server.ts';

export interface TestStorage {
  readonly database: Database;
  readonly blobs: DiskBlobStore;
}

/** Set by a test file before it imports the scenarios: `sqlite` (default) or `postgres`. */
const onPostgres = (): boolean => process.env['SLIPWAY_TEST_DATABASE'] === 'postgres';

/** Opens what belongs to the data folder; opening it again finds what it held. */
export async function openTestStorage(data: string): Promise<TestStorage> {
  const database = onPostgres()
    ? await openPostgresDatabase({ url: await databaseOf(data) })
    : await openSqliteDatabase(join(data, 'slipway.db'));
  return { database, blobs: await openDiskBlobStore(join(data, 'packs')) };
}

const databases = new Map<string, Promise<string>>();
let server: Promise<PostgresServer> | undefined;

async function databaseOf(data: string): Promise<string> {
  const known = databases.get(data);
  if (known) return await known;
  server ??= openPostgresServer();
  const made = server.then(async (postgres) => await postgres.createDatabase());
  databases.set(data, made);
  return await made;
}

/** To be called when every tested server is closed. */
export async function closeTestStorage(): Promise<void> {
  await (await server)?.[Symbol.asyncDispose]();
}
