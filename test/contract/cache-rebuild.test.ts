// A lost database is restored from storage alone; damage is found, marked, and heals; the journal stays small.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { commitContent } from '../../src/cache/ingest/commit-content.ts';
import { ContentWriter } from '../../src/cache/ingest/content-writer.ts';
import { fsck } from '../../src/cache/recovery/fsck.ts';
import { flushJournal } from '../../src/cache/recovery/journal.ts';
import { JOURNAL_PREFIX } from '../../src/cache/recovery/journal-format.ts';
import { PackPool } from '../../src/cache/ingest/pack-pool.ts';
import { PACK_PREFIX } from '../../src/cache/ingest/pack-writer.ts';
import { rebuildDatabase } from '../../src/cache/recovery/rebuild.ts';
import { scrubRound } from '../../src/cache/recovery/scrub.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { isCode } from '../../src/util/errors.ts';
import { issueToken, openCacheServer, type CacheServer } from './cache-server.ts';
import { forgetDatabase, openTestStorage, type TestStorage } from './cache-storage.ts';
import { nix32, noise, testPath, Uploader, type TestPath } from './cache-uploads.ts';
import { BundleSender, chunksOf } from './upload-bundles.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-rebuild-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const fresh = (): string => mkdtempSync(join(folder, 'data-'));
const LOG = `log/${'0'.repeat(32)}-hello.drv`;
const CHECK = { full: false, repair: false };

async function clientOf(server: CacheServer, cache = 'main'): Promise<Uploader> {
  return new Uploader(`${server.url}/${cache}`, await issueToken(server, `write:${cache}`));
}

async function push(data: string, paths: readonly TestPath[]): Promise<Map<string, string>> {
  await using server = await openCacheServer(data);
  const client = await clientOf(server);
  for (const path of paths) assert.equal((await client.push(path)).status, 200);
  assert.equal((await client.put(LOG, 'built\n')).status, 200);
  const secret = await clientOf(server, 'secret');
  assert.equal((await secret.push(paths[0] as TestPath)).status, 200);
  return await served(server, paths);
}

/** All that a client may see, by URL. */
async function served(server: CacheServer, paths: readonly TestPath[]): Promise<Map<string, string>> {
  const seen = new Map<string, string>();
  for (const cache of ['main', 'secret']) {
    const client = await clientOf(server, cache);
    for (const { hash, nar, url } of paths)
      for (const name of [`${hash}.narinfo`, `nar/${nix32(nar)}.nar`, url, LOG]) {
        const answer = await client.get(name);
        const body = Buffer.from(await answer.arrayBuffer()).toString('base64');
        seen.set(`${cache}/${name}`, `${answer.status} ${answer.status === 200 ? body : ''}`);
      }
  }
  return seen;
}

async function keys(blobs: BlobStore, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of blobs.list(prefix)) found.push(key);
  return found;
}

test('rebuildDatabase() restores every cache, path, upload and log from storage alone', async () => {
  const data = fresh();
  const shared = noise(2_000_000, 'rebuild');
  const paths = [
    await testPath('one', shared),
    await testPath('two', Buffer.concat([shared, Buffer.from('2')])),
    await testPath('three', noise(500, 'three')),
  ];
  const before = await push(data, paths);
  {
    await using storage = await openTestStorage(data);
    await flushJournal(storage);
  }
  forgetDatabase(data);
  {
    await using storage = await openTestStorage(data);
    const result = await rebuildDatabase(storage);
    assert.deepEqual(
      [result.brokenPacks, result.damagedContents, result.lostRecords, result.brokenJournals],
      [[], 0, 0, []],
    );
    assert.equal((await fsck(storage, { full: true, repair: false })).clean, true);
    await assert.rejects(rebuildDatabase(storage), (error) => isCode(error, 'conflict'));
  }
  await using server = await openCacheServer(data);
  assert.deepEqual(await served(server, paths), before);
  // Who pushes in chunks need not send again what is here.
  const sender = new BundleSender(server.url, 'main', await issueToken(server, 'write:main'));
  for (const path of paths) assert.match(await sender.missingChunks(await chunksOf(path.nar)), /^h+$/);
  // And it goes on: what comes later is told after what was told before.
  assert.equal(
    (await (await clientOf(server)).push(await testPath('later', noise(900, 'later')))).status,
    200,
  );
});

test('rebuildDatabase() reads a pack in which two uploads have stored the same chunk', async () => {
  const data = fresh();
  {
    await using storage = await openTestStorage(data);
    await using pool = new PackPool(storage.blobs);
    const writers = [pool.open(), pool.open()].map(
      (sink) => new ContentWriter(storage.database, storage.blobs, sink),
    );
    for (const writer of writers) await writer.write(noise(50_000, 'twice'));
    const staged = await Promise.all(writers.map(async (writer) => await writer.finish()));
    for (const one of staged)
      await storage.database.write(
        async (transaction) => await commitContent(transaction, { ...one, flatHash: undefined }, Date.now()),
      );
  }
  forgetDatabase(data);
  await using storage = await openTestStorage(data);
  const { contents, damagedContents } = await rebuildDatabase(storage);
  assert.deepEqual([contents, damagedContents], [2, 0]);
  assert.equal((await fsck(storage, { full: true, repair: false })).clean, true);
});

test('rebuildDatabase() knows what was taken away, and what was written after it', async () => {
  const data = fresh();
  const [gone, kept] = [
    await testPath('gone', noise(600, 'gone')),
    await testPath('kept', noise(600, 'kept')),
  ];
  await push(data, [gone, kept]);
  {
    await using storage = await openTestStorage(data);
    await flushJournal(storage);
    await storage.database.write(async (transaction) => {
      await transaction.deleteFrom('store_path').where('hash', '=', gone.hash).execute();
      await transaction.deleteFrom('cache').where('name', '=', 'secret').execute();
    });
    await flushJournal(storage);
  }
  forgetDatabase(data);
  await using storage = await openTestStorage(data);
  await rebuildDatabase(storage);
  const rows = await storage.database.read.selectFrom('store_path').select('hash').execute();
  assert.deepEqual(
    rows.map(({ hash }) => hash),
    [kept.hash],
  );
});

test('flushJournal() puts blobs together and stays readable', async () => {
  const data = fresh();
  const path = await testPath('many', noise(700, 'many'));
  const before = await push(data, [path]);
  {
    await using storage = await openTestStorage(data);
    for (let priority = 0; priority < 60; priority++) {
      await storage.database.write(
        async (transaction) =>
          await transaction.updateTable('cache').set({ priority }).where('name', '=', 'main').execute(),
      );
      await flushJournal(storage);
    }
    assert.ok((await keys(storage.blobs, JOURNAL_PREFIX)).length < 30);
  }
  forgetDatabase(data);
  {
    await using storage = await openTestStorage(data);
    await rebuildDatabase(storage);
    const row = await storage.database.read
      .selectFrom('cache')
      .select('priority')
      .where('name', '=', 'main')
      .executeTakeFirstOrThrow();
    assert.equal(row.priority, 59);
  }
  await using server = await openCacheServer(data);
  assert.deepEqual(await served(server, [path]), before);
});

test('fsck() finds a lost pack, --repair makes its paths absent, and a push heals them', async () => {
  const data = fresh();
  const path = await testPath('lost', noise(300_000, 'lost'));
  await push(data, [path]);
  {
    await using storage = await openTestStorage(data);
    assert.equal((await fsck(storage, CHECK)).clean, true);
    for (const key of await keys(storage.blobs, PACK_PREFIX)) await storage.blobs.delete(key);
    const found = await fsck(storage, CHECK);
    assert.equal(found.clean, false);
    assert.ok(found.missingPacks.length > 0);
    assert.deepEqual(found.damagedPaths, []);
    const repaired = await fsck(storage, { full: false, repair: true });
    assert.ok(repaired.damagedPaths.includes(path.storePath));
  }
  await using server = await openCacheServer(data);
  const client = await clientOf(server);
  assert.equal((await client.get(`${path.hash}.narinfo`)).status, 404);
  assert.equal((await client.push(path)).status, 200);
  assert.equal((await client.get(`${path.hash}.narinfo`)).status, 200);
});

test('fsck() writes a journal anew of which a part is broken', async () => {
  const data = fresh();
  const path = await testPath('journal', noise(700, 'journal'));
  const before = await push(data, [path]);
  {
    await using storage = await openTestStorage(data);
    await flushJournal(storage);
    for (const key of await keys(storage.blobs, JOURNAL_PREFIX)) {
      await storage.blobs.delete(key);
      await using writer = await storage.blobs.create(key);
      await writer.write(Buffer.from('not a journal'));
      await writer.commit();
    }
    assert.equal((await fsck(storage, CHECK)).brokenJournals.length > 0, true);
    await fsck(storage, { full: false, repair: true });
    assert.equal((await fsck(storage, CHECK)).clean, true);
  }
  forgetDatabase(data);
  {
    await using storage = await openTestStorage(data);
    await rebuildDatabase(storage);
  }
  await using server = await openCacheServer(data);
  assert.deepEqual(await served(server, [path]), before);
});

// A bucket's bytes cannot be changed behind its server: this one is about files.
const onFiles = process.env['SLIPWAY_TEST_STORAGE']?.includes('s3') !== true;
if (onFiles) test('fsck --full and the scrub find one changed byte among many packs', findsChangedByte);

async function findsChangedByte(): Promise<void> {
  const data = fresh();
  const path = await testPath('bit', noise(900_000, 'bit'));
  await push(data, [path]);
  await using storage = await openTestStorage(data);
  const damaged: string[] = [];
  const scrub = async (): Promise<number> =>
    await scrubRound(
      {
        ...storage,
        bytesPerSecond: 1e9,
        onDamage: ({ pack }) => damaged.push(pack),
        onError: (error) => assert.fail(String(error)),
      },
      AbortSignal.timeout(20_000),
    );
  const packs = await keys(storage.blobs, PACK_PREFIX);
  assert.equal(await scrub(), packs.length);
  assert.deepEqual(damaged, []);
  const { blob_key } = await storage.database.read
    .selectFrom('pack')
    .select('blob_key')
    .orderBy('size', 'desc')
    .executeTakeFirstOrThrow();
  const file = join(data, 'packs', 'blobs', blob_key);
  const bytes = readFileSync(file);
  bytes[300_000] = (bytes[300_000] ?? 0) ^ 1;
  writeFileSync(file, bytes);
  assert.equal((await fsck(storage, CHECK)).clean, true, 'a quick look reads no bytes');
  const { damagedChunks } = await fsck(storage, { full: true, repair: false });
  assert.equal(damagedChunks, await chunksAt(storage, blob_key, 300_000));
  await scrub();
  assert.deepEqual(damaged, [blob_key]);
  assert.ok((await fsck(storage, CHECK)).damagedPaths.includes(path.storePath));
}

/** How many chunks are in the frame that has this byte of a pack. */
async function chunksAt({ database }: TestStorage, blobKey: string, byte: number): Promise<number> {
  const rows = await database.read
    .selectFrom('chunk')
    .innerJoin('pack', 'pack.id', 'chunk.pack_id')
    .select(['frame_offset', 'frame_length'])
    .where('blob_key', '=', blobKey)
    .execute();
  return rows.filter((row) => row.frame_offset <= byte && byte < row.frame_offset + row.frame_length).length;
}
