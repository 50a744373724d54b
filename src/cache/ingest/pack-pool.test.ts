// Uploads that share packs: each gets its own frames, durable, whoever else succeeds, fails or gives up.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { BlobStore, BlobWriter } from '../../storage/blob-store.ts';
import { openDiskBlobStore } from '../../storage/disk-blob-store.ts';
import { readPackIndex } from '../recovery/pack-index.ts';
import { FRAME_KIND } from '../../content/pack-format.ts';
import { PackPool } from './pack-pool.ts';
import type { SealedPack } from './pack-writer.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-pool-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const openStore = async (): Promise<BlobStore> =>
  await openDiskBlobStore(mkdtempSync(join(folder, 'store-')));

async function upload(pool: PackPool, frames: readonly Buffer[]): Promise<readonly SealedPack[]> {
  await using sink = pool.open();
  for (const frame of frames) await sink.append(frame, contents());
  return await sink.finish();
}

const contents = () => ({
  kind: FRAME_KIND.chunk,
  parts: [
    { hash: randomBytes(32), rawLength: 1 },
    { hash: randomBytes(32), rawLength: 2 },
  ],
});
const frames = (count: number): Buffer[] => Array.from({ length: count }, () => randomBytes(2000));

test('PackPool puts uploads that go on at once into few packs and gives each its own frames', async () => {
  await using blobs = await openStore();
  const pool = new PackPool(blobs);
  const sent = Array.from({ length: 40 }, () => frames(3));
  const packs = await Promise.all(sent.map(async (some) => await upload(pool, some)));
  for (const [n, sealed] of packs.entries()) {
    const read = [];
    for (const { blobKey, size, frames: packed } of sealed) {
      assert.equal(await blobs.size(blobKey), size);
      for (const { offset, length } of packed) read.push(await blobs.read(blobKey, offset, length));
    }
    assert.deepEqual(read, sent[n]);
  }
  const keys = new Set(packs.flat().map(({ blobKey }) => blobKey));
  assert.ok(keys.size <= 10, `${keys.size} packs for 40 uploads`);
  for (const key of keys) assert.ok((await readPackIndex(blobs, key)) !== undefined);
});

test('PackPool keeps what an upload that was given up wrote from nobody else', async () => {
  await using blobs = await openStore();
  const pool = new PackPool(blobs);
  {
    await using lost = pool.open();
    await lost.append(randomBytes(10), contents());
  }
  const frame = randomBytes(500);
  const [pack] = await upload(pool, [frame]);
  assert.deepEqual(await blobs.read(pack?.blobKey ?? '', pack?.frames[0]?.offset ?? 0, 500), frame);
});

test('PackPool fails every upload of a pack that could not be written, and none after it', async () => {
  await using disk = await openStore();
  const full = new FullStore(disk);
  const pool = new PackPool(full);
  full.failing = true;
  const outcomes = await Promise.allSettled([upload(pool, frames(1)), upload(pool, frames(1))]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  full.failing = false;
  assert.equal((await upload(pool, frames(1))).length, 1);
});

/** Commits fail while it is told to. */
class FullStore implements BlobStore {
  readonly #store: BlobStore;
  failing = false;

  constructor(store: BlobStore) {
    this.#store = store;
  }

  async create(key: string): Promise<BlobWriter> {
    const writer = await this.#store.create(key);
    return {
      write: async (bytes) => await writer.write(bytes),
      commit: async () => {
        if (this.failing) throw new Error('ENOSPC');
        await writer.commit();
      },
      [Symbol.asyncDispose]: async () => await writer[Symbol.asyncDispose](),
    };
  }

  async read(key: string, offset: number, length: number): Promise<Buffer | undefined> {
    return await this.#store.read(key, offset, length);
  }

  async size(key: string): Promise<number | undefined> {
    return await this.#store.size(key);
  }

  list(prefix: string) {
    return this.#store.list(prefix);
  }

  async delete(key: string): Promise<void> {
    await this.#store.delete(key);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }
}
