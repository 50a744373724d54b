import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Normaliser, FILLER, type Taken } from './normaliser.ts';

const HASH = 'a0b1c2d3f4g5h6i7j8k9l0m1n2p3q4r5';
const NOTE = Buffer.from('040000001400000003000000474e5500', 'hex');

interface Result {
  readonly bytes: Buffer;
  readonly taken: readonly Taken[];
}

function normalise(bytes: Buffer, size = bytes.length + 1): Result {
  const normaliser = new Normaliser();
  const parts: Buffer[] = [];
  const taken: Taken[] = [];
  const keep = (result: Result): void => {
    parts.push(result.bytes);
    taken.push(...result.taken);
  };
  for (let at = 0; at < bytes.length; at += size) keep(normaliser.push(bytes.subarray(at, at + size)));
  keep(normaliser.end());
  return { bytes: Buffer.concat(parts), taken };
}

function restore({ bytes, taken }: Result): Buffer {
  const restored = Buffer.from(bytes);
  for (const { offset, bytes: literal } of taken) literal.copy(restored, offset);
  return restored;
}

const filler = (length: number): string => 'e'.repeat(length);
const textOf = (result: Result): string => result.bytes.toString('latin1');
const takenOf = (result: Result): string[] => result.taken.map(({ bytes }) => bytes.toString('latin1'));

test('Normaliser takes out the base names of store paths and nothing beside them', () => {
  const text = `x/nix/store/${HASH}-hello-2.12/bin/hello\0/nix/store/${HASH}-b:/nix/store/short-name`;
  const result = normalise(Buffer.from(text));
  assert.deepEqual(takenOf(result), [`${HASH}-hello-2.12`, `${HASH}-b`]);
  assert.equal(
    textOf(result),
    `x/nix/store/${filler(43)}/bin/hello\0/nix/store/${filler(34)}:/nix/store/short-name`,
  );
});

test('Normaliser takes out GNU build-ids', () => {
  const id = Buffer.from('0123456789abcdef0123456789abcdef01234567', 'hex');
  const result = normalise(Buffer.concat([Buffer.from('elf'), NOTE, id, Buffer.from('rest')]));
  assert.deepEqual(
    result.taken.map(({ offset, bytes }) => [offset, bytes]),
    [[19, id]],
  );
  assert.ok(result.bytes.subarray(19, 39).every((byte) => byte === FILLER));
});

test('Normaliser leaves what is cut off, or only looks like a store path, as it is', () => {
  for (const text of [
    `/nix/store/${HASH}`,
    `/nix/store/${HASH}_hello`,
    `/nix/store/${HASH.replace('a', 'e')}-hello`,
    `/nix/store/${HASH.slice(1)}-hello`,
    '/nix/store//nix/store/',
  ])
    assert.equal(textOf(normalise(Buffer.from(text))), text);
  assert.equal(normalise(NOTE).taken.length, 0);
});

/** Streams that are full of what is looked for: whole, cut short, doubled, overlapping. */
const stream = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        Buffer.from(`/nix/store/${HASH}-hello`),
        Buffer.from('/nix/store/'),
        Buffer.from(HASH),
        Buffer.from('-name'),
        Buffer.from('n'.repeat(230)),
        Buffer.from('e'.repeat(40)),
        NOTE,
        NOTE.subarray(0, 7),
        NOTE.subarray(9),
        Buffer.from('/store/'),
        Buffer.from('/nix/stor'),
        Buffer.alloc(20, 9),
      ),
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
    ),
    { maxLength: 30 },
  )
  .map((parts) => Buffer.concat(parts));

test('Normaliser gives the same however the stream is cut, and what it takes out restores the stream', () => {
  fc.assert(
    fc.property(stream, fc.integer({ min: 1, max: 400 }), (bytes, size) => {
      const whole = normalise(bytes);
      assert.ok(restore(whole).equals(bytes));
      const cut = normalise(bytes, size);
      assert.ok(cut.bytes.equals(whole.bytes));
      assert.deepEqual(cut.taken, whole.taken);
    }),
    { numRuns: 400 },
  );
});

/** What may be found at each place, as expressions over latin1, and how long the mark before it is. */
const NOTE_TEXT = NOTE.toString('latin1');
const STORE_PATHS = /(?<=\/nix\/store\/)(?=([0-9abcdfghijklmnpqrsvwxyz]{32}-[\w+\-.?=]{0,211}))/g;
const BUILD_IDS = new RegExp(`(?<=${NOTE_TEXT})(?=([^]{20}))`, 'g');

function expectedFinds(text: string): [number, string][] {
  const found = [
    ...[...text.matchAll(STORE_PATHS)].map((match) => ({ match, mark: '/nix/store/'.length })),
    ...[...text.matchAll(BUILD_IDS)].map((match) => ({ match, mark: NOTE.length })),
  ];
  found.sort((a, b) => a.match.index - a.mark - (b.match.index - b.mark));
  let end = 0;
  return found.flatMap(({ match, mark }): [number, string][] => {
    if (match.index - mark < end) return [];
    const [, bytes = ''] = match;
    end = match.index + bytes.length;
    return [[match.index, bytes]];
  });
}

test('Normaliser finds what expressions find, but what begins in something that was taken out', () => {
  fc.assert(
    fc.property(stream, (bytes) => {
      const { taken } = normalise(bytes);
      assert.deepEqual(
        taken.map(({ offset, bytes: found }) => [offset, found.toString('latin1')]),
        expectedFinds(bytes.toString('latin1')),
      );
    }),
    { numRuns: 400 },
  );
});
