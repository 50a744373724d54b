import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { ChunkPatcher, type PatchedChunk } from './chunk-patcher.ts';
import { Chunker } from './chunker.ts';
import { Normaliser } from './normaliser.ts';
import { SlabCutter, type SlabWindow } from './slab-cutter.ts';

/** What normaliser, chunker and patcher make of the stream one after the other: that is how the server cuts. */
function cutOneByOne(stream: Buffer): PatchedChunk[] {
  const cut: PatchedChunk[] = [];
  const patcher = new ChunkPatcher();
  const chunker = new Chunker();
  const add = (bytes: Buffer): void => void cut.push(patcher.patch(bytes));
  const normaliser = new Normaliser();
  for (const { bytes, taken } of [normaliser.push(stream), normaliser.end()]) {
    patcher.add(taken);
    chunker.push(bytes, add);
  }
  chunker.end(add);
  return cut;
}

interface Cut {
  readonly stream: number;
  readonly hash: string;
  readonly bytes: string;
  readonly patches: readonly string[];
}

function describe(stream: number, { hash, bytes, patches }: PatchedChunk): Cut {
  return {
    stream,
    hash: hash.toString('hex'),
    bytes: createHash('sha1').update(bytes).digest('hex'),
    patches: patches.map(({ offset, literal }) => `${offset} ${literal.toString('latin1')}`),
  };
}

function cutInSlabs(streams: readonly Buffer[], pieces: readonly number[], flush: boolean): Cut[] {
  const cuts: Cut[] = [];
  const cutter = new SlabCutter<number>();
  // Each window is looked at one window late and then released: what follows must not have changed it.
  let before: SlabWindow<number> | undefined;
  const take = (): void => {
    for (const window of cutter.take()) {
      for (const { stream, chunk } of before?.chunks ?? []) cuts.push(describe(stream, chunk));
      before?.release();
      before = window;
    }
  };
  for (const [n, stream] of streams.entries()) {
    cutter.begin(n);
    for (let at = 0, piece = 0; at < stream.length; piece++) {
      const length = pieces[piece % pieces.length] ?? 1;
      cutter.push(stream.subarray(at, at + length));
      take();
      at += length;
    }
    cutter.end();
    if (flush) cutter.flush();
    take();
  }
  cutter.flush();
  take();
  for (const { stream, chunk } of before?.chunks ?? []) cuts.push(describe(stream, chunk));
  return cuts;
}

const reference = fc
  .nat(5)
  .map((n) => `/nix/store/0123456789abcdfghijklmnpqrsvwxyz-name-${'x'.repeat(n * 9)}`);
const noise = fc.tuple(fc.nat(1000), fc.integer({ min: 1, max: 4000 })).map(([seed, times]) =>
  createHash('shake256', { outputLength: times * 97 })
    .update(`${seed}`)
    .digest()
    .toString('latin1'),
);
const stream = fc
  .array(fc.oneof(noise, reference, fc.string({ maxLength: 100 }), fc.constant('\0'.repeat(700_000))), {
    maxLength: 25,
  })
  .map((parts) => Buffer.from(parts.join(''), 'latin1'));

test('SlabCutter cuts and names as normaliser, chunker and patcher do, over the borders of streams', () => {
  fc.assert(
    fc.property(
      fc.array(stream, { minLength: 1, maxLength: 5 }),
      fc.array(fc.integer({ min: 1, max: 400_000 }), { minLength: 1, maxLength: 5 }),
      fc.boolean(),
      (streams, pieces, flush) => {
        const expected = streams.flatMap((one, n) => cutOneByOne(one).map((chunk) => describe(n, chunk)));
        const least = pieces.map((piece) => Math.max(piece, 997)); // single bytes take too long here
        assert.deepEqual(cutInSlabs(streams, least, flush), expected);
      },
    ),
    { numRuns: 12 },
  );
});
