import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { constants, createZstdCompress, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { isCode } from '../../util/errors.ts';
import { decompressed } from './decompress.ts';

async function* pieces(bytes: Buffer, size: number): AsyncIterable<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function unpack(bytes: Buffer, size = 65_536): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of decompressed(pieces(bytes, size), 'zstd')) parts.push(part);
  return Buffer.concat(parts);
}

/** One frame whose header does not state its size, with a checksum, as the zstd tool writes from a pipe. */
async function streamedFrame(raw: Buffer, params: Record<number, number> = {}): Promise<Buffer> {
  const encoder = createZstdCompress({ params: { [constants.ZSTD_c_checksumFlag]: 1, ...params } });
  encoder.end(raw);
  const parts: Buffer[] = [];
  for await (const part of encoder) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

const SKIPPABLE = Buffer.from([0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
const EMPTY_SKIPPABLE = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
const LONG = Buffer.from('slipway '.repeat(900_000));

test('decompressed() reads any run of frames, cut into any pieces', async () => {
  const kinds: readonly ((raw: Buffer) => Promise<Buffer>)[] = [
    (raw) => Promise.resolve(zstdCompressSync(raw)),
    streamedFrame,
    (raw) => Promise.resolve(Buffer.concat([SKIPPABLE, zstdCompressSync(raw), EMPTY_SKIPPABLE])),
  ];
  const frame = fc.record({
    kind: fc.constantFrom(...kinds),
    raw: fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
      fc.nat({ max: 300_000 }).map((length) => Buffer.alloc(length, 7)),
    ),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(frame, { maxLength: 6 }),
      fc.constantFrom(1, 3, 17, 4096),
      async (frames, size) => {
        const packed = Buffer.concat(await Promise.all(frames.map(({ kind, raw }) => kind(raw))));
        assert.ok((await unpack(packed, size)).equals(Buffer.concat(frames.map(({ raw }) => raw))));
      },
    ),
    { numRuns: 60 },
  );
});

test('decompressed() streams a large frame', async () => {
  assert.ok((await unpack(zstdCompressSync(LONG))).equals(LONG));
  assert.ok((await unpack(await streamedFrame(LONG), 1000)).equals(LONG));
});

test('decompressed() refuses a truncated stream wherever it is cut', async () => {
  const packed = Buffer.concat([
    zstdCompressSync(Buffer.from('first')),
    await streamedFrame(Buffer.from('second')),
  ]);
  const boundary = zstdCompressSync(Buffer.from('first')).length;
  for (let length = 1; length < packed.length; length++)
    if (length !== boundary)
      await assert.rejects(
        unpack(packed.subarray(0, length)),
        (error) => isCode(error, 'nar_invalid'),
        `${length}`,
      );
});

test('decompressed() refuses what is not zstd, and damage inside a frame', async () => {
  await assert.rejects(unpack(Buffer.from('plainly not zstd')), (error) => isCode(error, 'nar_invalid'));
  const packed = await streamedFrame(LONG.subarray(0, 100_000));
  packed[packed.length - 2] = (packed[packed.length - 2] ?? 0) ^ 0xff;
  await assert.rejects(unpack(packed), (error) => isCode(error, 'nar_invalid'));
});

test('decompressed() refuses a frame that asks for a window over 128 MiB', async () => {
  const greedy = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0, 0, 0, 0]);
  await assert.rejects(unpack(greedy), /window/);
});

test('decompressed() passes on the failure of the body itself', async () => {
  await assert.rejects(collect(decompressed(failing(), 'zstd')), /went away/);
});

async function collect(items: AsyncIterable<Buffer>): Promise<Buffer[]> {
  const all: Buffer[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function* failing(): AsyncIterable<Buffer> {
  yield await streamedFrame(LONG).then((frame) => frame.subarray(0, 50));
  throw new Error('the client went away');
}

test('decompressed() works on one frame with a large window at a time, and on others beside it', async () => {
  const large = await streamedFrame(LONG, { [constants.ZSTD_c_windowLog]: 27 });
  const stalled = Promise.withResolvers<void>();
  async function* stalling(): AsyncIterable<Buffer> {
    yield large.subarray(0, 100);
    await stalled.promise;
    yield large.subarray(100);
  }
  const finished: string[] = [];
  const read = async (name: string, body: AsyncIterable<Buffer>): Promise<void> => {
    for await (const part of decompressed(body, 'zstd')) assert.ok(part.length > 0);
    finished.push(name);
  };
  const first = read('stalled', stalling());
  await setImmediate();
  const second = read('large', pieces(large, 65_536));
  await read('usual', pieces(await streamedFrame(LONG), 65_536));
  assert.deepEqual(finished, ['usual']);
  stalled.resolve();
  await Promise.all([first, second]);
  assert.deepEqual(finished, ['usual', 'stalled', 'large']);
});
