import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseRange } from './range.ts';

test('parseRange() reads the three forms of RFC 9110', () => {
  assert.deepEqual(parseRange('bytes=2-4', 10), { kind: 'part', start: 2, end: 5 });
  assert.deepEqual(parseRange('bytes=2-', 10), { kind: 'part', start: 2, end: 10 });
  assert.deepEqual(parseRange('bytes=-3', 10), { kind: 'part', start: 7, end: 10 });
  assert.deepEqual(parseRange('bytes=2-99', 10), { kind: 'part', start: 2, end: 10 });
  assert.deepEqual(parseRange('bytes=-99', 10), { kind: 'part', start: 0, end: 10 });
});

test('parseRange() calls a range outside the body unsatisfiable', () => {
  for (const header of ['bytes=10-', 'bytes=10-12', 'bytes=-0'])
    assert.deepEqual(parseRange(header, 10), { kind: 'unsatisfiable' });
});

test('parseRange() means the whole body by anything else', () => {
  for (const header of [
    undefined,
    '',
    'bytes=-',
    'bytes=5-2',
    'bytes=0-1,3-4',
    'items=0-1',
    'bytes=a-b',
    'bytes= 1-2',
  ])
    assert.deepEqual(parseRange(header, 10), { kind: 'whole' });
});

test('parseRange() never leaves the body', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('0', '1', '9', '-', ','), maxLength: 9 }),
      fc.nat(50),
      (text, length) => {
        const range = parseRange(`bytes=${text}`, length);
        if (range.kind === 'part')
          assert.ok(0 <= range.start && range.start < range.end && range.end <= length);
      },
    ),
  );
});
