import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { decodeFrame, FRAME_BYTES } from './frame-codec.ts';
import { fillPlaces, findPlaces, markerOf } from './patched-frame.ts';
import { rawFrame, rawFrameLength } from './raw-frame.ts';

for (const length of [1, 9, 255, 131_071, 131_072, 131_073, 262_144, FRAME_BYTES])
  test(`rawFrame() of ${length} bytes is a zstd frame of the promised length`, async () => {
    const bytes = randomBytes(length);
    const frame = rawFrame(bytes);
    assert.equal(frame.length, rawFrameLength(length));
    assert.ok((await decodeFrame(frame, length)).equals(bytes));
    assert.ok(execFileSync('zstd', ['-dcq'], { input: frame, maxBuffer: 2 * FRAME_BYTES }).equals(bytes));
  });

test('rawFrame() makes a block of each place, so that it can be filled in', async () => {
  const bytes = randomBytes(200_000);
  const places = [
    { offset: 0, length: 40 },
    { offset: 40, length: 12 },
    { offset: 140_000, length: 200 },
    { offset: 199_900, length: 100 },
  ];
  for (const [n, { offset, length }] of places.entries()) markerOf(n, length).copy(bytes, offset);
  const frame = rawFrame(bytes, places);
  assert.deepEqual(findPlaces(frame, bytes), places);
  const literals = places.map(({ length }) => randomBytes(length));
  fillPlaces(frame, literals);
  for (const [n, { offset }] of places.entries()) literals[n]?.copy(bytes, offset);
  assert.ok((await decodeFrame(frame, bytes.length)).equals(bytes));
});
