// The S3 adapter against the BlobStore contract on a real server, and against what goes wrong between the two.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { after, test } from 'node:test';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { endsBlobs } from '../../src/storage/s3-bucket.ts';
import { openS3BlobStore } from '../../src/storage/s3-blob-store.ts';
import { isCode } from '../../src/util/errors.ts';
import { blobStoreContract } from './blob-store.contract.ts';
import { openFaultProxy, type Fault, type FaultProxy } from './fault-proxy.ts';
import { openS3Server } from './s3-server.ts';

const MIB = 1024 * 1024;
const server = await openS3Server();
after(async () => await server[Symbol.asyncDispose]());

blobStoreContract('S3BlobStore', async () => await openS3BlobStore(await server.createBucket()));

test('S3BlobStore takes a blob of many parts and reads it back by ranges', async () => {
  await using store = await openS3BlobStore(await server.createBucket());
  const bytes = randomBytes(19 * MIB + 123);
  await put(store, 'pack/large', bytes, 700_001);
  assert.equal(await store.size('pack/large'), bytes.length);
  for (const [from, length] of [
    [0, bytes.length],
    [8 * MIB - 5, 10],
    [bytes.length - 7, 7],
  ] as const)
    assert.ok((await store.read('pack/large', from, length))?.equals(bytes.subarray(from, from + length)));
});

test('S3BlobStore leaves nothing of an upload that is abandoned in its middle', async () => {
  await using store = await openS3BlobStore(await server.createBucket());
  {
    await using writer = await store.create('pack/half');
    await writer.write(randomBytes(9 * MIB));
  }
  assert.equal(await store.size('pack/half'), undefined);
});

test('S3BlobStore lists more blobs than one answer holds', async () => {
  await using store = await openS3BlobStore(await server.createBucket());
  const keys = Array.from({ length: 1050 }, (_, index) => `pack/${index}`);
  for (let from = 0; from < keys.length; from += 50)
    await Promise.all(
      keys.slice(from, from + 50).map(async (key) => await put(store, key, Buffer.from(key))),
    );
  const found: string[] = [];
  for await (const { key } of store.list('pack/')) found.push(key);
  assert.deepEqual(found.toSorted(), keys.toSorted());
});

/** Every `every`-th request of the kind meets the fault. */
async function withFaults(
  fault: Fault,
  matches: (request: IncomingMessage) => boolean,
  work: (store: BlobStore, proxy: FaultProxy) => Promise<void>,
): Promise<void> {
  const options = await server.createBucket();
  await using proxy = await openFaultProxy(options.endpoint ?? '');
  await using store = await openS3BlobStore({ ...options, endpoint: proxy.url });
  let seen = 0;
  proxy.plan = (request) => (matches(request) && seen++ % 3 === 0 ? fault : undefined);
  await work(store, proxy);
  assert.ok(proxy.done > 0, 'the fault happened');
}

for (const status of [500, 503])
  test(`S3BlobStore writes and reads through answers of ${status}`, async () => {
    await withFaults(
      { status },
      () => true,
      async (store) => {
        const bytes = randomBytes(10 * MIB);
        await put(store, 'pack/a', bytes);
        assert.ok((await store.read('pack/a', 0, bytes.length))?.equals(bytes));
        await store.delete('pack/a');
        assert.equal(await store.size('pack/a'), undefined);
      },
    );
  });

test('S3BlobStore reads again what was cut off', async () => {
  await withFaults(
    'cut',
    ({ method }) => method === 'GET',
    async (store) => {
      const bytes = randomBytes(MIB);
      await put(store, 'pack/a', bytes);
      for (let n = 0; n < 4; n++) assert.ok((await store.read('pack/a', 0, bytes.length))?.equals(bytes));
    },
  );
});

test('S3BlobStore finds its own blob when the answer to the put was lost', async () => {
  await withFaults(
    'lose',
    ({ method }) => method === 'PUT' || method === 'POST',
    async (store) => {
      for (const [key, size] of [
        ['pack/small', 1000],
        ['pack/large', 17 * MIB],
      ] as const) {
        const bytes = randomBytes(size);
        await put(store, key, bytes);
        assert.ok((await store.read(key, 0, bytes.length))?.equals(bytes));
      }
    },
  );
});

test('S3BlobStore sends again what was damaged on its way', async () => {
  await withFaults(
    'flip',
    ({ method }) => method === 'PUT',
    async (store) => {
      const bytes = randomBytes(9 * MIB);
      await put(store, 'pack/a', bytes);
      assert.ok((await store.read('pack/a', 0, bytes.length))?.equals(bytes));
    },
  );
});

test('S3BlobStore gives up on a store that only fails, as unavailable', async () => {
  const options = await server.createBucket();
  await using proxy = await openFaultProxy(options.endpoint ?? '');
  await using store = await openS3BlobStore({ ...options, endpoint: proxy.url });
  proxy.plan = () => ({ status: 503 });
  await assert.rejects(store.read('pack/a', 0, 1), (error) => isCode(error, 'unavailable'));
});

test('openS3BlobStore() names a bucket that is not there', async () => {
  const options = await server.createBucket();
  await assert.rejects(openS3BlobStore({ ...options, bucket: 'nothere' }), (error) =>
    isCode(error, 'invalid'),
  );
});

test('endsBlobs() finds rules that would lose blobs, and no others', () => {
  const rule = { Status: 'Enabled' as const };
  assert.equal(endsBlobs({ ...rule, Expiration: { Days: 30 }, Filter: { Prefix: '' } }, 'cache/'), true);
  assert.equal(endsBlobs({ ...rule, Expiration: { Days: 30 } }, ''), true);
  assert.equal(
    endsBlobs({ ...rule, Expiration: { Days: 30 }, Filter: { Prefix: 'cache/pack/' } }, 'cache/'),
    true,
  );
  assert.equal(endsBlobs({ ...rule, Transitions: [{ Days: 9, StorageClass: 'GLACIER' }] }, ''), true);
  assert.equal(
    endsBlobs({ ...rule, Expiration: { Days: 30 }, Filter: { Prefix: 'logs/' } }, 'cache/'),
    false,
  );
  assert.equal(endsBlobs({ Status: 'Disabled', Expiration: { Days: 30 } }, ''), false);
  assert.equal(endsBlobs({ ...rule, AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 } }, ''), false);
  assert.equal(
    endsBlobs({ ...rule, Expiration: { Days: 1 }, Filter: { Tag: { Key: 'a', Value: 'b' } } }, ''),
    false,
  );
});

test('openS3BlobStore() refuses a bucket that expires objects', async () => {
  const options = await server.createBucket();
  await using proxy = await openFaultProxy(options.endpoint ?? '');
  const rule = '<ID>old</ID><Status>Enabled</Status><Filter><Prefix/></Filter>';
  const body = `<LifecycleConfiguration><Rule>${rule}<Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>`;
  proxy.plan = ({ url }) => (url?.includes('lifecycle') === true ? { status: 200, body } : undefined);
  await assert.rejects(
    openS3BlobStore({ ...options, endpoint: proxy.url }),
    (error) => isCode(error, 'invalid') && /"old"/.test(error.message),
  );
});

async function put(store: BlobStore, key: string, bytes: Buffer, step = MIB): Promise<void> {
  await using writer = await store.create(key);
  for (let at = 0; at < bytes.length; at += step) await writer.write(bytes.subarray(at, at + step));
  await writer.commit();
}
