import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCode } from '../../util/errors.ts';
import { decompressed } from './decompress.ts';

// printf 'slipway\n' | xz -9e | base64
const WORD = Buffer.from(
  '/Td6WFoAAATm1rRGAgAhARwAAAAQz1jMAQAHc2xpcHdheQoAr65NTpqywvkAASAIuxnZux+2830BAAAAAARZWg==',
  'base64',
);
const PADDING = Buffer.alloc(8);

async function* pieces(bytes: Buffer, size: number): AsyncIterable<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function unpack(bytes: Buffer, size = 65_536): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of decompressed(pieces(bytes, size), 'xz')) parts.push(part);
  return Buffer.concat(parts).toString();
}

test('decompressed() reads one and several xz streams, with padding between them, cut into any pieces', async () => {
  for (const size of [1, 7, 4096]) {
    assert.equal(await unpack(WORD, size), 'slipway\n');
    assert.equal(await unpack(Buffer.concat([WORD, PADDING, WORD, WORD]), size), 'slipway\n'.repeat(3));
  }
});

test('decompressed() refuses an xz stream that is truncated anywhere, or followed by something else', async () => {
  for (let length = 0; length < WORD.length; length++)
    await assert.rejects(
      unpack(WORD.subarray(0, length)),
      (error) => isCode(error, 'nar_invalid'),
      `${length}`,
    );
  await assert.rejects(unpack(Buffer.concat([WORD, Buffer.from('more')])), (error) =>
    isCode(error, 'nar_invalid'),
  );
});

test('decompressed() refuses an xz stream with any bit flipped', async () => {
  for (let at = 0; at < WORD.length; at++) {
    const damaged = Buffer.from(WORD);
    damaged[at] = (damaged[at] ?? 0) ^ 0x10;
    await assert.rejects(unpack(damaged), (error) => isCode(error, 'nar_invalid'), `byte ${at}`);
  }
});

test('decompressed() decodes many xz streams at once, and passes on the failure of a body', async () => {
  const all = await Promise.all(Array.from({ length: 20 }, async () => await unpack(WORD, 5)));
  assert.deepEqual(new Set(all), new Set(['slipway\n']));
  await assert.rejects(async () => {
    for await (const _ of decompressed(failing(), 'xz'));
  }, /went away/);
});

async function* failing(): AsyncIterable<Buffer> {
  yield WORD.subarray(0, 30);
  throw new Error('the client went away');
}
