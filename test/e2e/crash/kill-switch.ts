// Kills this very process with SIGKILL at the n-th step that storage takes: before and after each change of a blob or of the
// database. So every gap between two steps is met, also those that last no time at all.
import type { TestStorage } from '../../contract/cache-storage.ts';
import type { BlobStore, BlobWriter } from '../../../src/storage/blob-store.ts';
import type { Database } from '../../../src/storage/database.ts';

export class KillSwitch {
  #left = Infinity;

  /** Dies at the n-th step from now. */
  arm(steps: number): void {
    this.#left = steps;
  }

  step(): void {
    if (--this.#left === 0) process.kill(process.pid, 'SIGKILL');
  }
}

export function withKillSwitch(storage: TestStorage, killer: KillSwitch): TestStorage {
  return {
    database: watchDatabase(storage.database, killer),
    blobs: watchBlobs(storage.blobs, killer),
    [Symbol.asyncDispose]: async () => await storage[Symbol.asyncDispose](),
  };
}

function watchDatabase(database: Database, killer: KillSwitch): Database {
  return {
    read: database.read,
    write: async (work) => {
      killer.step();
      const result = await database.write(async (transaction) => {
        const done = await work(transaction);
        killer.step(); // before COMMIT
        return done;
      });
      killer.step();
      return result;
    },
    [Symbol.asyncDispose]: async () => await database[Symbol.asyncDispose](),
  };
}

function watchBlobs(blobs: BlobStore, killer: KillSwitch): BlobStore {
  return {
    create: async (key) => watchWriter(await blobs.create(key), killer),
    read: async (...args) => await blobs.read(...args),
    size: async (key) => await blobs.size(key),
    ...(blobs.inspect !== undefined && { inspect: async (key: string) => await blobs.inspect?.(key) }),
    list: (prefix) => blobs.list(prefix),
    delete: async (key) => {
      killer.step();
      await blobs.delete(key);
      killer.step();
    },
    [Symbol.asyncDispose]: async () => await blobs[Symbol.asyncDispose](),
  };
}

function watchWriter(writer: BlobWriter, killer: KillSwitch): BlobWriter {
  return {
    write: async (bytes) => {
      killer.step();
      await writer.write(bytes);
    },
    commit: async () => {
      killer.step();
      await writer.commit();
      killer.step();
    },
    [Symbol.asyncDispose]: async () => await writer[Symbol.asyncDispose](),
  };
}
