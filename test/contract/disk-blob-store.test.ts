// The disk adapter against the BlobStore contract, and what is its own: leftovers of a killed writer.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openDiskBlobStore, removeUnfinished } from '../../src/storage/disk-blob-store.ts';
import { blobStoreContract } from './blob-store.contract.ts';

const directory = mkdtempSync(join(tmpdir(), 'slipway-blobs-'));
after(() => rmSync(directory, { recursive: true, force: true }));
const fresh = (): string => mkdtempSync(join(directory, 'store-'));

blobStoreContract('DiskBlobStore', async () => await openDiskBlobStore(fresh()));

test('removeUnfinished() takes what a killed writer left and nothing else', async () => {
  const at = fresh();
  await using store = await openDiskBlobStore(at);
  await using writer = await store.create('pack/kept');
  await writer.write(Buffer.from('kept'));
  await writer.commit();
  writeFileSync(join(at, 'tmp', 'left-behind'), 'x');
  assert.equal(await removeUnfinished(at), 1);
  assert.equal(await removeUnfinished(at), 0);
  assert.equal(await store.size('pack/kept'), 4);
});
