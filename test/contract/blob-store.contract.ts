// What every BlobStore must do. An adapter's test calls this with a way to open an empty store.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { isCode } from '../../src/util/errors.ts';

export function blobStoreContract(name: string, open: () => Promise<BlobStore>): void {
  const check = (fact: string, work: (store: BlobStore) => Promise<void>): void => {
    test(`${name} ${fact}`, async () => {
      await using store = await open();
      await work(store);
    });
  };

  check('reads back what was committed, by ranges', async (store) => {
    await putBlob(store, 'pack/a', ['hello ', 'world']);
    assert.equal(await store.size('pack/a'), 11);
    assert.equal((await store.read('pack/a', 0, 11))?.toString(), 'hello world');
    assert.equal((await store.read('pack/a', 6, 3))?.toString(), 'wor');
    assert.equal((await store.read('pack/a', 11, 0))?.length, 0);
  });

  check('holds an empty blob', async (store) => {
    await putBlob(store, 'pack/empty', []);
    assert.equal(await store.size('pack/empty'), 0);
  });

  check('never reads fewer bytes than asked: a range past the end is undefined', async (store) => {
    await putBlob(store, 'pack/a', ['12345']);
    assert.equal(await store.read('pack/a', 3, 3), undefined);
    assert.equal(await store.read('pack/a', 9, 1), undefined);
  });

  check('says undefined for a blob that is not there', async (store) => {
    assert.equal(await store.size('pack/none'), undefined);
    assert.equal(await store.read('pack/none', 0, 1), undefined);
  });

  check('sees a blob that is created after it was missed', async (store) => {
    assert.equal(await store.read('pack/late', 0, 1), undefined);
    await putBlob(store, 'pack/late', ['x']);
    assert.equal((await store.read('pack/late', 0, 1))?.toString(), 'x');
  });

  check('shows nothing before the commit and nothing after an abandoned write', async (store) => {
    await using writer = await store.create('pack/half');
    await writer.write(Buffer.from('half'));
    assert.equal(await store.size('pack/half'), undefined);
    assert.deepEqual(await listed(store, ''), []);
    await writer[Symbol.asyncDispose]();
    assert.equal(await store.size('pack/half'), undefined);
  });

  check('refuses to replace a blob and keeps the first', async (store) => {
    await putBlob(store, 'pack/a', ['first']);
    await assert.rejects(putBlob(store, 'pack/a', ['second']), (error) => isCode(error, 'conflict'));
    assert.equal((await store.read('pack/a', 0, 5))?.toString(), 'first');
    assert.deepEqual(await listed(store, 'pack/'), ['pack/a:5']);
  });

  check('lets one of many writers of the same key win', async (store) => {
    const attempts = Array.from({ length: 8 }, (_, index) => putBlob(store, 'pack/race', [`${index}`]));
    const outcomes = await Promise.allSettled(attempts);
    assert.equal(outcomes.filter((outcome) => outcome.status === 'fulfilled').length, 1);
  });

  check('lists by prefix', async (store) => {
    await putBlob(store, 'pack/a', ['1']);
    await putBlob(store, 'pack/b', ['22']);
    await putBlob(store, 'other/c', ['333']);
    assert.deepEqual(await listed(store, 'pack/'), ['pack/a:1', 'pack/b:2']);
    assert.deepEqual(await listed(store, ''), ['other/c:3', 'pack/a:1', 'pack/b:2']);
  });

  check('deletes twice without complaint, also under a reader', async (store) => {
    await putBlob(store, 'pack/a', ['1234']);
    assert.equal((await store.read('pack/a', 0, 4))?.toString(), '1234');
    await store.delete('pack/a');
    await store.delete('pack/a');
    assert.equal(await store.read('pack/a', 0, 4), undefined);
    assert.deepEqual(await listed(store, ''), []);
  });

  check('refuses keys that could leave the store', async (store) => {
    for (const key of ['../x', '/etc/passwd', 'a//b', 'a/../b', '', '.hidden', 'A'])
      await assert.rejects(store.create(key), (error) => isCode(error, 'invalid'));
  });
}

async function putBlob(store: BlobStore, key: string, parts: readonly string[]): Promise<void> {
  await using writer = await store.create(key);
  for (const part of parts) await writer.write(Buffer.from(part));
  await writer.commit();
}

async function listed(store: BlobStore, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { key, size } of store.list(prefix)) found.push(`${key}:${size}`);
  return found.toSorted();
}
