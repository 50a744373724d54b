import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { isCode } from '../util/errors.ts';
import { findTrueChunks, patchedChunkHash, plainChunkHash } from './chunk-identity.ts';
import { decodeFrame, encodeFrame } from './frame-codec.ts';
import { FILLER } from './normaliser.ts';
import {
  encodePatchedFrame,
  fillPlaces,
  findPlaces,
  markerOf,
  MOST_PLACES,
  SHORTEST_PLACE,
  type Place,
} from './patched-frame.ts';

interface Sample {
  readonly raw: Buffer;
  readonly places: readonly Place[];
}

/** Text that compresses, and noise that does not. */
const natural = fc.oneof(
  fc.constantFrom('#include <stdio.h>\n', '/nix/store/', 'e'.repeat(52), '\0'.repeat(300)),
  fc.string({ maxLength: 40 }),
  fc.nat(9).map((n) => createHash('sha512').update(`${n}`).digest().toString('latin1')),
);
/** What could be taken for a marker. */
const misleading = fc.nat(3).map((n) => markerOf(n, 40).toString('latin1'));

/** Bytes made of such pieces, with places anywhere. */
const sampleOf = (piece: fc.Arbitrary<string>): fc.Arbitrary<Sample> =>
  fc
    .record({
      texts: fc.array(piece, { minLength: 1, maxLength: 60 }),
      gaps: fc.array(fc.record({ gap: fc.nat(300), length: fc.integer({ min: SHORTEST_PLACE, max: 244 }) }), {
        minLength: 1,
        maxLength: MOST_PLACES,
      }),
    })
    .map(({ texts, gaps }) => {
      const raw = Buffer.from(texts.join('').repeat(20), 'latin1');
      const places: Place[] = [];
      let at = 0;
      for (const { gap, length } of gaps) {
        if (at + gap + length > raw.length) break;
        places.push({ offset: at + gap, length });
        at += gap + length;
      }
      for (const { offset, length } of places) raw.fill(FILLER, offset, offset + length);
      return { raw, places };
    })
    .filter(({ places }) => places.length > 0);

/** Whether the frame holds one chunk, of that name. */
async function isOne(frame: Buffer, rawLength: number, hash: Buffer): Promise<boolean> {
  return (await findTrueChunks(frame, rawLength, [{ hash, offset: 0, rawLength }])).length === 1;
}

function literalsFor(places: readonly Place[], seed: number): Buffer[] {
  return places.map(({ length }, n) => Buffer.alloc(length, `${seed} ${n} literal `));
}

for (const [kind, sample, least] of [
  ['natural bytes', sampleOf(natural), 140],
  ['bytes that hold markers', sampleOf(fc.oneof(natural, misleading)), 0],
] as const)
  test(`encodePatchedFrame() makes frames of ${kind} that decode to the chunk with any literals filled in`, async () => {
    let made = 0;
    await fc.assert(
      fc.asyncProperty(sample, fc.nat(), async ({ raw, places }, seed) => {
        const name = patchedChunkHash(raw, places);
        const frame = await encodePatchedFrame(raw, places);
        if (frame === undefined) return; // allowed: such a chunk is stored plain
        made++;
        const literals = literalsFor(places, seed);
        const filled = Buffer.from(frame);
        fillPlaces(filled, literals);
        assert.equal(filled.length, frame.length);
        const expected = Buffer.from(raw);
        for (const [n, { offset }] of places.entries()) literals[n]?.copy(expected, offset);
        assert.ok((await decodeFrame(filled, raw.length)).equals(expected));
        assert.ok(await isOne(frame, raw.length, name));
      }),
      { numRuns: 150 },
    );
    assert.ok(made >= least, `only ${made} of 150 could be made`);
  });

test('findPlaces() reads the places back from a stored frame', async () => {
  const raw = Buffer.from('line of text\n'.repeat(500));
  const places = [
    { offset: 0, length: 40 },
    { offset: 1000, length: 52 },
    { offset: 1052, length: 20 },
    { offset: raw.length - 30, length: 30 },
  ];
  const frame = await encodePatchedFrame(raw, places);
  assert.ok(frame);
  assert.deepEqual(findPlaces(frame, await decodeFrame(frame, raw.length)), places);
});

test('fillPlaces() refuses a frame without the places', () => {
  const frame = zstdCompressSync(Buffer.from('nothing to fill in here'));
  assert.throws(
    () => fillPlaces(frame, [Buffer.alloc(32)]),
    (error) => isCode(error, 'internal'),
  );
});

test('findTrueChunks() tells plain chunks, chunks with places, and neither apart', async () => {
  const raw = Buffer.from('some bytes of a chunk '.repeat(90));
  const frame = await encodeFrame(raw);
  assert.ok(await isOne(frame, raw.length, plainChunkHash(raw)));
  assert.ok(!(await isOne(frame, raw.length, patchedChunkHash(raw, []))));
  assert.ok(!(await isOne(frame, raw.length + 1, plainChunkHash(raw))));
  assert.ok(!(await isOne(Buffer.alloc(50), 50, plainChunkHash(raw))));
});

test('a chunk with places never has the name of a plain chunk', () => {
  const raw = Buffer.from('x'.repeat(100));
  const table = Buffer.alloc(8);
  table.writeUInt32LE(5, 0);
  table.writeUInt32LE(40, 4);
  const forged = plainChunkHash(Buffer.concat([raw, table]));
  assert.ok(!patchedChunkHash(raw, [{ offset: 5, length: 40 }]).equals(forged));
});
