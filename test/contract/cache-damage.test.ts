// Storage that lies, and servers that were killed: never a wrong byte, never a short 200; damage heals with the next push.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { isCode } from '../../src/util/errors.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { issueToken, openCacheServer, type CacheServer, type CacheServerOptions } from './cache-server.ts';
import { openTestStorage } from './cache-storage.ts';
import { narInfo, nix32, noise, testPath, Uploader, type TestPath } from './cache-uploads.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-damage-'));
after(() => rmSync(folder, { recursive: true, force: true }));

interface Scene extends AsyncDisposable {
  readonly server: CacheServer;
  readonly client: Uploader;
}

async function openScene(
  data = mkdtempSync(join(folder, 'data-')),
  options: CacheServerOptions = {},
): Promise<Scene> {
  const server = await openCacheServer(data, options);
  const client = new Uploader(`${server.url}/main`, await issueToken(server, 'write:main'));
  return { server, client, [Symbol.asyncDispose]: async () => await server[Symbol.asyncDispose]() };
}

function packFiles({ server }: Scene): string[] {
  const packs = join(server.data, 'packs', 'blobs');
  return readdirSync(packs, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

function flipByte(file: string, at: number): void {
  const bytes = readFileSync(file);
  bytes[at] = (bytes[at] ?? 0) ^ 0xff;
  writeFileSync(file, bytes);
}

/** How a download ends; `wrong` must never happen. */
async function download({ client }: Scene, path: TestPath): Promise<'whole' | 'wrong' | 'absent' | 'broken'> {
  const response = await client.get(`nar/${nix32(path.nar)}.nar`);
  if (response.status === 404) return 'absent';
  assert.equal(response.status, 200);
  try {
    return Buffer.from(await response.arrayBuffer()).equals(path.nar) ? 'whole' : 'wrong';
  } catch {
    return 'broken';
  }
}

async function isPublished({ client }: Scene, path: TestPath): Promise<boolean> {
  return (await client.get(`${path.hash}.narinfo`, {}, 'HEAD')).status === 200;
}

async function assertHeals(scene: Scene, path: TestPath): Promise<void> {
  assert.equal(await isPublished(scene, path), false, 'a damaged path counts as absent');
  assert.equal((await scene.client.push(path)).status, 200);
  assert.equal(await isPublished(scene, path), true);
  assert.equal(await download(scene, path), 'whole');
}

test('a pack that is gone makes its path absent until it is pushed again', async () => {
  await using scene = await openScene();
  const path = await testPath('gone', noise(400_000, 'gone'));
  assert.equal((await scene.client.push(path)).status, 200);
  for (const file of packFiles(scene)) rmSync(file);
  assert.equal(await download(scene, path), 'absent');
  await assertHeals(scene, path);
});

test('a pack that is cut short makes its path absent until it is pushed again', async () => {
  await using scene = await openScene();
  const path = await testPath('short', noise(400_000, 'short'));
  assert.equal((await scene.client.push(path)).status, 200);
  for (const file of packFiles(scene)) writeFileSync(file, readFileSync(file).subarray(0, 1000));
  assert.equal(await download(scene, path), 'absent');
  await assertHeals(scene, path);
});

test('a flipped bit is found before its chunk is sent: absent at the start, a broken transfer further on', async () => {
  for (const [at, expected] of [
    [5_000, 'absent'],
    [4_900_000, 'broken'],
  ] as const) {
    await using scene = await openScene();
    const path = await testPath('rotten', noise(5_000_000, 'rotten'));
    assert.equal((await scene.client.push(path)).status, 200);
    for (const file of packFiles(scene)) flipByte(file, at);
    assert.equal(await download(scene, path), expected);
    assert.equal(scene.server.failures.splice(0).length, expected === 'broken' ? 1 : 0);
    assert.equal(await download(scene, path), 'absent');
    await assertHeals(scene, path);
  }
});

/** The store, with a word with all bytes that were read. */
function watchReads(blobs: BlobStore, see: (bytes: Buffer) => void): BlobStore {
  const read = async (...question: Parameters<BlobStore['read']>): Promise<Buffer | undefined> => {
    const bytes = await blobs.read(...question);
    if (bytes !== undefined) see(bytes);
    return bytes;
  };
  return new Proxy(blobs, {
    get: (store, name) => {
      const member: unknown = name === 'read' ? read : Reflect.get(store, name, store);
      return typeof member === 'function' ? (member.bind(store) as unknown) : member;
    },
  });
}

test('bytes that come damaged from a store that holds them whole are read again, and nothing is marked', async () => {
  const data = mkdtempSync(join(folder, 'data-'));
  await using storage = await openTestStorage(data);
  let damaged = 0;
  const blobs = watchReads(storage.blobs, (bytes) => {
    if (damaged++ === 0) bytes[0] = (bytes[0] ?? 0) ^ 0xff;
  });
  await using scene = await openScene(data, { storage: { ...storage, blobs, database: storage.database } });
  const path = await testPath('flaky', noise(300_000, 'flaky'));
  assert.equal((await scene.client.push(path)).status, 200);
  assert.equal(await download(scene, path), 'whole');
  assert.ok(damaged > 1, 'the first answer was damaged');
  assert.equal(await isPublished(scene, path), true);
  assert.deepEqual(
    await scene.server.database.read
      .selectFrom('content')
      .select('id')
      .where('damaged_at', 'is not', null)
      .execute(),
    [],
  );
});

test('a chunk that heals, heals every content that shares it', async () => {
  await using scene = await openScene();
  const shared = noise(3_000_000, 'shared');
  const [one, two] = [
    await testPath('shared-one', shared),
    await testPath('shared-two', Buffer.concat([shared, Buffer.from('two')])),
  ];
  for (const path of [one, two]) assert.equal((await scene.client.push(path)).status, 200);
  const [largest = ''] = packFiles(scene).toSorted((a, b) => readFileSync(b).length - readFileSync(a).length);
  flipByte(largest, 2_000_000); // behind the first chunk, which holds the file's size and so differs
  assert.equal(await download(scene, two), 'broken');
  assert.equal(await download(scene, one), 'absent');
  assert.equal(scene.server.failures.splice(0).length, 1);
  await assertHeals(scene, one);
  assert.equal(await download(scene, two), 'whole');
});

test('a restarted server has every accepted path, and takes away what no transaction names', async () => {
  const data = join(folder, 'restarted');
  const path = await testPath('kept', noise(400_000, 'kept'));
  {
    await using scene = await openScene(data);
    assert.equal((await scene.client.push(path)).status, 200);
    writeFileSync(join(data, 'packs', 'tmp', 'half-written'), 'x');
    const [pack = ''] = packFiles(scene);
    writeFileSync(`${pack}00`, readFileSync(pack));
  }
  await using scene = await openScene(data);
  assert.equal(packFiles(scene).length, 1);
  assert.deepEqual(readdirSync(join(data, 'packs', 'tmp')), []);
  assert.equal(await download(scene, path), 'whole');
});

test('an upload whose narinfo never came is forgotten after its day, and can be sent again', async () => {
  const data = join(folder, 'expired');
  const path = await testPath('expired', noise(1000, 'expired'));
  {
    await using scene = await openScene(data);
    assert.equal((await scene.client.put(path.url, path.file)).status, 200);
    await scene.server.database.write(
      async (transaction) => await transaction.updateTable('nar_upload').set({ expires_at: 1 }).execute(),
    );
  }
  await using scene = await openScene(data);
  assert.equal((await scene.client.put(`${path.hash}.narinfo`, narInfo(path))).status, 400);
  assert.equal((await scene.client.push(path)).status, 200);
});

test('a second server on the same data directory is refused', async () => {
  await using scene = await openScene();
  await assert.rejects(openCacheServer(scene.server.data), (error) => isCode(error, 'unavailable'));
});

test('what is downloaded again and again is read no more, until somebody touches its pack', async () => {
  const data = mkdtempSync(join(folder, 'data-'));
  await using storage = await openTestStorage(data);
  let reads = 0;
  const blobs = watchReads(storage.blobs, () => void reads++);
  await using scene = await openScene(data, { storage: { ...storage, blobs, database: storage.database } });
  const path = await testPath('hot', Buffer.concat([noise(1_500_000, 'hot'), noise(700_000, 'more')]));
  assert.equal((await scene.client.push(path)).status, 200);
  const before: number[] = [];
  for (let n = 0; n < 5; n++) {
    before.push(reads);
    assert.equal(await download(scene, path), 'whole');
  }
  assert.ok((before[1] ?? 0) > (before[0] ?? 0));
  assert.equal(before[4], before[3], 'the fourth came from memory');
  assert.equal(reads, before[4]);
  for (const file of packFiles(scene)) flipByte(file, 5_000);
  assert.equal(await download(scene, path), 'absent');
});
