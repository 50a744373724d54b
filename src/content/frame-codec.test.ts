import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { decodeFrame, encodeFrame } from './frame-codec.ts';
import { ZstdFrameSplitter } from './zstd-frames.ts';

const raw = fc
  .tuple(fc.uint8Array({ maxLength: 2000 }), fc.integer({ min: 1, max: 300 }))
  .map(([bytes, times]) => Buffer.concat(Array.from({ length: times }, () => bytes)));

test('decodeFrame() inverts encodeFrame(), many at once', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(raw, { minLength: 1, maxLength: 12 }), async (chunks) => {
      const frames = await Promise.all(chunks.map(async (raw) => await encodeFrame(raw)));
      for (const [index, frame] of frames.entries()) {
        const chunk = chunks[index] as Buffer;
        assert.ok(zstdDecompressSync(frame).equals(chunk));
        assert.ok((await decodeFrame(frame, chunk.length)).equals(chunk));
      }
    }),
    { numRuns: 50 },
  );
});

test('encodeFrame() makes exactly one frame, which states its size', async () => {
  for (const length of [0, 1, 1000, 524_288]) {
    const frame = await encodeFrame(Buffer.alloc(length, 'slipway'));
    const parts = [...new ZstdFrameSplitter().push(frame)];
    assert.deepEqual(
      parts.map((part) => [part.first, part.last, part.contentSize, part.bytes.length]),
      [[true, true, length, frame.length]],
    );
  }
});

test('decodeFrame() refuses a frame of another size', async () => {
  const frame = await encodeFrame(Buffer.alloc(1000));
  await assert.rejects(decodeFrame(frame, 999));
  await assert.rejects(decodeFrame(frame, 1001));
});

test('decodeFrame() refuses what is more or less than one frame, and decodes the next one all the same', async () => {
  const raw = randomBytes(90_000).fill('compressible ', 20_000);
  const frame = await encodeFrame(raw);
  const flipped = Buffer.from(frame);
  for (let at = 6; at < 600; at += 7) {
    flipped.set(frame);
    flipped[at] = (flipped[at] ?? 0) ^ 0x81;
    const decoded = await decodeFrame(flipped, raw.length).catch(() => undefined);
    assert.ok(decoded === undefined || decoded.length === raw.length);
    assert.ok((await decodeFrame(frame, raw.length)).equals(raw), `after a flip of byte ${at}`);
  }
  for (const wrong of [
    Buffer.concat([frame, frame]),
    frame.subarray(0, -1),
    Buffer.alloc(0),
    Buffer.alloc(60),
  ])
    await assert.rejects(decodeFrame(wrong, raw.length));
});

test('decodeFrame() stops at the stated size: a frame cannot blow up', async () => {
  const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024));
  await assert.rejects(decodeFrame(bomb, 100_000), { code: 'internal' });
  assert.ok((await decodeFrame(await encodeFrame(Buffer.from('next')), 4)).equals(Buffer.from('next')));
});

test('decodeFrame() uses the memory that it decodes with again', async () => {
  const raw = randomBytes(300_000);
  const frame = await encodeFrame(raw);
  const target = Buffer.alloc(raw.length);
  await decodeFrame(frame, raw.length, target);
  const before = process.memoryUsage().arrayBuffers;
  let most = before;
  for (let n = 0; n < 200; n++) {
    await decodeFrame(frame, raw.length, target);
    most = Math.max(most, process.memoryUsage().arrayBuffers);
  }
  assert.ok(target.equals(raw));
  assert.ok(
    most - before < 8 * raw.length,
    `${most - before} bytes of garbage after 200 frames of ${raw.length}`,
  );
});
