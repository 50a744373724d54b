// A cache over a real database, with blobs in memory and a clock of its own, in which everything can be cut off or
// interrupted: for tests of garbage collection. The database is in memory where the machine has that (/dev/shm).
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatBase32 } from '../../src/nix/base32.ts';
import {
  collectGarbage,
  type GarbageReport,
  type GarbageSettings,
} from '../../src/cache/garbage/collect-garbage.ts';
import { commitContent } from '../../src/cache/ingest/commit-content.ts';
import { ContentLayouts } from '../../src/cache/content-layout.ts';
import { ContentReader } from '../../src/cache/content-reader.ts';
import { ContentWriter, type StagedContent } from '../../src/cache/ingest/content-writer.ts';
import { rescuePaths } from '../../src/cache/garbage/rescue-paths.ts';
import type { BlobEntry, BlobStore, BlobWriter } from '../../src/storage/blob-store.ts';
import type { Database } from '../../src/storage/database.ts';
import { openSqliteDatabase } from '../../src/storage/sqlite-database.ts';

export const SETTINGS: GarbageSettings = {
  roots: { releases: 2, generations: 1 },
  keepMs: 100,
  graceMs: 40,
  chunkGraceMs: 30,
  packGraceMs: 20,
  youngMs: 5,
  settleBytes: 0,
};

/** Blobs in memory; `failAfter` counts down with each change, and from zero on every change fails as in a crash. */
class MemoryBlobs implements BlobStore {
  readonly blobs = new Map<string, Buffer>();
  readonly #crash: Crash;

  constructor(crash: Crash) {
    this.#crash = crash;
  }

  async create(key: string): Promise<BlobWriter> {
    const parts: Buffer[] = [];
    return await Promise.resolve({
      write: async (bytes: Uint8Array) => void (await Promise.resolve(parts.push(Buffer.from(bytes)))),
      commit: async () => {
        this.#crash.step();
        await Promise.resolve(this.blobs.set(key, Buffer.concat(parts)));
      },
      [Symbol.asyncDispose]: async () => await Promise.resolve(),
    });
  }

  async read(key: string, offset: number, length: number): Promise<Buffer | undefined> {
    const bytes = this.blobs.get(key)?.subarray(offset, offset + length);
    return await Promise.resolve(bytes?.length === length ? Buffer.from(bytes) : undefined); // the reader's own
  }

  async size(key: string): Promise<number | undefined> {
    return await Promise.resolve(this.blobs.get(key)?.length);
  }

  async *list(): AsyncIterable<BlobEntry> {
    for (const [key, bytes] of this.blobs)
      yield await Promise.resolve({ key, size: bytes.length, modifiedAt: 0 });
  }

  async delete(key: string): Promise<void> {
    this.#crash.step();
    await Promise.resolve(this.blobs.delete(key));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.resolve();
  }
}

class Crash {
  left = Infinity;

  step(): void {
    if (this.left-- <= 0) throw new Error('crashed');
  }
}

/** What happens between two changes of a collection. */
interface Meanwhile {
  /** Before which of its changes. */
  left: number;
  readonly work: () => Promise<void>;
}

export class Scene implements AsyncDisposable {
  readonly blobs: MemoryBlobs;
  readonly database: Database;
  readonly crash: Crash;
  readonly #folder: string | undefined;
  meanwhile: Meanwhile | undefined;
  now = 1_000_000;
  readonly contents = new Map<string, Buffer>();
  readonly references = new Map<string, readonly string[]>();

  private constructor(database: Database, folder: string | undefined) {
    const crash = new Crash();
    this.crash = crash;
    this.#folder = folder;
    this.database = {
      read: database.read,
      write: async (work) => {
        await this.#interrupt();
        crash.step();
        return await database.write(work);
      },
      [Symbol.asyncDispose]: async () => await database[Symbol.asyncDispose](),
    };
    this.blobs = new MemoryBlobs(crash);
  }

  /** Over a database that is empty. */
  static async over(database: Database): Promise<Scene> {
    const scene = new Scene(database, undefined);
    await scene.addCache('main');
    return scene;
  }

  static async open(): Promise<Scene> {
    const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'slipway-garbage-'));
    const scene = new Scene(await openSqliteDatabase(join(folder, 'slipway.db')), folder);
    await scene.addCache('main');
    return scene;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.database[Symbol.asyncDispose]();
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }

  async addCache(name: string): Promise<void> {
    await this.database.write(
      async (transaction) =>
        await transaction
          .insertInto('cache')
          .values({ name, is_public: 1, priority: 30, store_dir: '/nix/store', closed: 1, created_at: 0 })
          .execute(),
    );
  }

  async #interrupt(): Promise<void> {
    const { meanwhile } = this;
    if (meanwhile === undefined || meanwhile.left-- > 0) return;
    this.meanwhile = undefined;
    await meanwhile.work();
  }

  /** The first half of an upload: the bytes are durable, and nothing names them. */
  async stage(bytes: Buffer): Promise<StagedContent> {
    await using writer = new ContentWriter(this.database, this.blobs);
    await writer.write(bytes);
    return await writer.finish();
  }

  async push(name: string, bytes: Buffer, references: readonly string[] = []): Promise<void> {
    await this.publish(name, bytes, { staged: await this.stage(bytes), references });
  }

  /** Publishes a path as the server does: content first, then the path with what it references saved. */
  async publish(
    name: string,
    bytes: Buffer,
    upload: { readonly staged: StagedContent; readonly references: readonly string[] },
  ): Promise<boolean> {
    const { references } = upload;
    const staged = { ...upload.staged, flatHash: undefined };
    return await this.database.write(async (transaction) => {
      const content_id = await commitContent(transaction, staged, this.now);
      const needed = [hashOf(name), ...references.map(hashOf)];
      const present = await rescuePaths(transaction, 1, needed, this.now);
      if (references.some((reference) => !present.has(hashOf(reference)))) return false;
      const row = { content_id, last_access_at: this.now };
      await transaction
        .insertInto('store_path')
        .values({
          cache_id: 1,
          hash: hashOf(name),
          store_path: `/nix/store/${hashOf(name)}-${name}`,
          path_references: references.map((reference) => `${hashOf(reference)}-${reference}`).join(' '),
          narinfo: '',
          writer: 'w',
          created_at: this.now,
          ...row,
        })
        .onConflict((conflict) => conflict.columns(['cache_id', 'hash']).doUpdateSet(row))
        .execute();
      if (!present.has(hashOf(name))) {
        this.contents.set(name, bytes);
        this.references.set(name, references);
      }
      return true;
    });
  }

  /** Asks for a path as a client does; false: not here. */
  async use(name: string): Promise<boolean> {
    return await this.database.write(async (transaction) => {
      const present = await rescuePaths(transaction, 1, [hashOf(name)], this.now);
      await transaction
        .updateTable('store_path')
        .set({ last_access_at: this.now })
        .where('hash', '=', hashOf(name))
        .execute();
      return present.has(hashOf(name));
    });
  }

  async pin(name: string): Promise<void> {
    const row = { name: 'test', hash: hashOf(name), store_path: name, created_at: this.now };
    await this.database.write(
      async (transaction) =>
        await transaction
          .insertInto('pin')
          .values(row)
          .onConflict((conflict) => conflict.doNothing())
          .execute(),
    );
  }

  async unpinAll(): Promise<void> {
    await this.database.write(async (transaction) => await transaction.deleteFrom('pin').execute());
  }

  async collect(): Promise<GarbageReport> {
    return await collectGarbage(this, { settings: SETTINGS, now: this.now });
  }

  /** A collection during which something else happens before its n-th change. */
  async collectWhile(left: number, work: () => Promise<void>): Promise<void> {
    this.meanwhile = { left, work };
    await this.collect();
    this.meanwhile = undefined;
  }

  /** A collection that is cut off at its n-th change. */
  async collectCut(steps: number): Promise<void> {
    this.crash.left = steps;
    await this.collect().catch(() => undefined);
    this.crash.left = Infinity;
    await this.database.write(async (transaction) => await transaction.deleteFrom('lease').execute());
  }

  async names(): Promise<string[]> {
    const rows = await this.database.read.selectFrom('store_path').select('store_path').execute();
    return rows.map((row) => row.store_path.slice('/nix/store/'.length + 33)).toSorted();
  }

  /** Every path that is there is whole, and so is what it references. */
  async assertSound(): Promise<void> {
    const names = await this.names();
    const here = new Set(names);
    for (const name of names) {
      for (const reference of this.references.get(name) ?? [])
        assert.ok(here.has(reference), `${name} has lost ${reference}`);
      assert.ok(
        (await this.read(name))?.equals(this.contents.get(name) ?? Buffer.alloc(0)),
        `${name} is broken`,
      );
    }
  }

  async read(name: string): Promise<Buffer | undefined> {
    const layouts = new ContentLayouts(this.database);
    const reader = new ContentReader({
      database: this.database,
      blobs: this.blobs,
      layouts,
      onDamage: () => undefined,
    });
    const { content_id } = await this.database.read
      .selectFrom('store_path')
      .select('content_id')
      .where('hash', '=', hashOf(name))
      .executeTakeFirstOrThrow();
    const opened = await reader.open(content_id, 'raw');
    const body = await opened?.start({ start: 0, end: opened.length });
    return body === undefined ? undefined : Buffer.concat(await Array.fromAsync(body));
  }
}

function hashOf(name: string): string {
  return formatBase32(createHash('sha256').update(name).digest().subarray(0, 20));
}

const blocks = new Map<number, Buffer>();

/** About one chunk of bytes that no other number gives. */
export function block(number: number): Buffer {
  const known = blocks.get(number);
  if (known) return known;
  const bytes = Buffer.alloc(40_000);
  for (let at = 0; at < bytes.length; at += 32)
    bytes.set(createHash('sha256').update(`${number} ${at}`).digest(), at);
  blocks.set(number, bytes);
  return bytes;
}
