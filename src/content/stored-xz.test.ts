import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { StoredXz, type Span } from './stored-xz.ts';

async function read(raw: Buffer, span: Span, pieceBytes: number): Promise<Buffer> {
  const file = new StoredXz(raw.length);
  const { start, end } = file.rawSpan(span);
  async function* pieces(): AsyncIterable<Buffer> {
    for (let at = start; at < end; at += pieceBytes)
      yield await Promise.resolve(raw.subarray(at, Math.min(end, at + pieceBytes)));
  }
  const parts: Buffer[] = [];
  for await (const part of file.wrap(span, pieces())) parts.push(part);
  return Buffer.concat(parts);
}

test('StoredXz writes what xz reads', async () => {
  // `xz -dc` makes "hello" of it; test/e2e/cache-xz.test.ts asks the real one for larger files.
  const raw = Buffer.from('hello');
  const file = new StoredXz(raw.length);
  const bytes = await read(raw, { start: 0, end: file.length }, 2);
  assert.equal(bytes.length, file.length);
  const head = 'fd377a585a000000ff12d9410200210100000000372797d6';
  const chunks = `010004${raw.toString('hex')}00`;
  const tail = '00000000011505b0a7596706729e7a010000000000595a';
  assert.equal(bytes.toString('hex'), head + chunks + tail);
});

test('StoredXz gives any part of the file as it is in the whole', async () => {
  const raw = Buffer.alloc(200_000, 'some contents ');
  const pieces = fc.constantFrom(1_000, 65_536, 100_000);
  const lengths = fc.constantFrom(0, 1, 65_535, 65_536, 65_537, 131_072, 200_000);
  const property = fc.asyncProperty(lengths, pieces, fc.nat(), fc.nat(), async (length, size, one, two) => {
    const contents = raw.subarray(0, length);
    const all = new StoredXz(length).length;
    const whole = await read(contents, { start: 0, end: all }, size);
    assert.equal(whole.length, all);
    const [start, end] = [one % (all + 1), two % (all + 1)].toSorted((a, b) => a - b) as [number, number];
    assert.ok((await read(contents, { start, end }, size)).equals(whole.subarray(start, end)));
  });
  await fc.assert(property, { numRuns: 60 });
});
