import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LineSplitter } from './lines.ts';

function split(chunks: readonly Uint8Array[], maxLength?: number): string[] {
  const lines: string[] = [];
  const splitter = new LineSplitter((line) => lines.push(line), maxLength);
  for (const chunk of chunks) splitter.push(chunk);
  splitter.end();
  return lines;
}

test('LineSplitter gives the same lines however the bytes are cut', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'binary' })), fc.nat(7), (lines, step) => {
      const text = lines.map((line) => `${line.replaceAll('\n', '')}\n`).join('');
      const bytes = Buffer.from(text);
      const chunks: Uint8Array[] = [];
      for (let i = 0; i < bytes.length; i += step + 1) chunks.push(bytes.subarray(i, i + step + 1));
      assert.deepEqual(split(chunks), split([bytes]));
    }),
  );
});

test('LineSplitter keeps a last line without newline', () => {
  assert.deepEqual(split([Buffer.from('a\nb')]), ['a', 'b']);
});

test('LineSplitter cuts a line over the limit once and goes on with the next', () => {
  const endless = Array.from({ length: 100 }, () => Buffer.from('x'.repeat(10)));
  assert.deepEqual(split([...endless, Buffer.from('\nnext\n')], 16), [
    `${'x'.repeat(16)} …[line cut]`,
    'next',
  ]);
});
