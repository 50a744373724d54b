// The storage below a tested cache server: SQLite and files, or a real PostgreSQL and S3 when the test file asks for it.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { openDiskBlobStore, removeUnfinished } from '../../src/storage/disk-blob-store.ts';
import type { Database } from '../../src/storage/database.ts';
import { openPostgresDatabase } from '../../src/storage/postgres-database.ts';
import { openS3BlobStore } from '../../src/storage/s3-blob-store.ts';
import { openSqliteDatabase } from '../../src/storage/sqlite-database.ts';
import { openPostgresServer } from './postgres-server.ts';
import { openS3Server } from './s3-server.ts';

export interface TestStorage extends AsyncDisposable {
  readonly database: Database;
  readonly blobs: BlobStore;
}

/** Set by a test file before it imports the scenarios: `postgres`, `s3`, or both. */
const wants = (part: string): boolean => (process.env['SLIPWAY_TEST_STORAGE'] ?? '').includes(part);

/** Opens what belongs to the data folder, as its only server; opening it again finds what it held. */
export async function openTestStorage(data: string): Promise<TestStorage> {
  const database = wants('postgres')
    ? await openPostgresDatabase({ url: await databases.find(data) })
    : await openSqliteDatabase(join(data, 'slipway.db'));
  const blobs = wants('s3') ? await openS3BlobStore(await buckets.find(data)) : await openDisk(data);
  return {
    database,
    blobs,
    [Symbol.asyncDispose]: async () => {
      await blobs[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    },
  };
}

async function openDisk(data: string): Promise<BlobStore> {
  const blobs = await openDiskBlobStore(join(data, 'packs'));
  await removeUnfinished(join(data, 'packs'));
  return blobs;
}

/** Loses the database, not what is stored. Nothing may be open. */
export function forgetDatabase(data: string): void {
  databases.forget(data);
  for (const end of ['', '-wal', '-shm']) rmSync(join(data, `slipway.db${end}`), { force: true });
}

/** To be called when every tested server is closed. */
export async function closeTestStorage(): Promise<void> {
  await databases.close();
  await buckets.close();
}

/** One server for all, started when it is first needed, and a place on it for each data folder. */
class Places<Server extends AsyncDisposable, Place> {
  readonly #open: () => Promise<Server>;
  readonly #make: (server: Server) => Promise<Place>;
  readonly #known = new Map<string, Promise<Place>>();
  #server: Promise<Server> | undefined;

  constructor(open: () => Promise<Server>, make: (server: Server) => Promise<Place>) {
    this.#open = open;
    this.#make = make;
  }

  async find(data: string): Promise<Place> {
    const known = this.#known.get(data);
    if (known) return await known;
    this.#server ??= this.#open();
    const made = this.#server.then(this.#make);
    this.#known.set(data, made);
    return await made;
  }

  forget(data: string): void {
    this.#known.delete(data);
  }

  async close(): Promise<void> {
    await (await this.#server)?.[Symbol.asyncDispose]();
  }
}

const databases = new Places(openPostgresServer, async (server) => await server.createDatabase());
const buckets = new Places(openS3Server, async (server) => await server.createBucket());
