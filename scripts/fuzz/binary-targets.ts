// Fuzz targets of what is stored or sent as bytes: NARs, packs, recipes, frames, bundles, compressed uploads, the journal.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { decompressed, type UploadCompression } from '../../src/cache/ingest/decompress.ts';
import { formatJournal, parseJournalKey, parseJournalLine } from '../../src/cache/recovery/journal-format.ts';
import { BUNDLE_MAGIC, formatRecord, readRecords } from '../../src/content/bundle-format.ts';
import { encodeFrame, decodeFrame } from '../../src/content/frame-codec.ts';
import {
  FRAME_KIND,
  formatPackIndex,
  packIndexLength,
  parsePackIndex,
  parsePackTrailer,
  TRAILER_BYTES,
} from '../../src/content/pack-format.ts';
import {
  encodePatchedFrame,
  fillPlaces,
  findPlaces,
  isPatchedFrame,
} from '../../src/content/patched-frame.ts';
import { formatRecipe, parseRecipe } from '../../src/content/recipe.ts';
import { parseSingleFrame, ZstdFrameSplitter } from '../../src/content/zstd-frames.ts';
import { NarReader } from '../../src/nix/nar-reader.ts';
import { plainTree, toNarNode } from '../../src/nix/nar-tree.arbitrary.ts';
import { writeNar } from '../../src/nix/nar-writer.ts';
import { expect, type FuzzTarget } from './fuzz-target.ts';

const VECTORS = join(import.meta.dirname, '../../test/vectors');
/** `hello hello hello hello` by xz. */
const XZ_SEED = Buffer.from(
  '/Td6WFoAAATm1rRGAgAhARYAAAB0L+Wj4AAWAAtdADQZSe6N6VYKteAAAACJQ9vqAzTk0AABJxeJgpB5H7bzfQEAAAAABFla',
  'base64',
);
const MIB = 1024 * 1024;
/** What a limit at the door would let pass of a decompression bomb. */
const MOST_OUTPUT = 64 * MIB;

const vector = (name: string): Buffer => readFileSync(join(VECTORS, name));
const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

const nar: FuzzTarget = {
  name: 'nar',
  seeds: () => [vector('nix/tree.nar')],
  generate: async (seed) =>
    await Promise.all(
      fc.sample(plainTree, { seed, numRuns: 4 }).map(async (tree) => {
        const parts: Uint8Array[] = [];
        for await (const part of writeNar(toNarNode(tree))) parts.push(part);
        return Buffer.concat(parts);
      }),
    ),
  words: [
    'nix-archive-1',
    '(',
    ')',
    'type',
    'regular',
    'symlink',
    'directory',
    'entry',
    'name',
    'node',
    '..',
    'a/b',
  ],
  run: (input) => {
    // However it is cut into pieces, the same bytes are taken or refused.
    const outcomes = [input.length, 1, 7].map((step) => narOutcome(input, Math.max(1, step)));
    expect(new Set(outcomes).size === 1, `pieces decide: ${outcomes.join(', ')}`);
  },
};

function narOutcome(input: Buffer, step: number): string {
  const reader = new NarReader({}, { maxSize: 10 * MIB });
  try {
    for (let at = 0; at < input.length; at += step) reader.write(input.subarray(at, at + step));
    reader.end();
    return 'taken';
  } catch (error) {
    if (error instanceof Error && error.constructor.name === 'SlipwayError') return 'refused';
    throw error;
  }
}

const recipe: FuzzTarget = {
  name: 'recipe',
  seeds: () => [
    formatRecipe({ hash: sha256('a'), size: 5, chunks: [{ hash: sha256('b'), rawLength: 5 }] }),
    formatRecipe({
      hash: sha256('c'),
      size: 300,
      chunks: [
        {
          hash: sha256('d'),
          rawLength: 300,
          patches: [{ offset: 20, literal: Buffer.from('literal-literal') }],
        },
      ],
    }),
  ],
  run: (input) => {
    for (const bytes of [input, withChecksum(input)]) readRecipe(bytes);
  },
};

function readRecipe(bytes: Buffer): void {
  let parsed;
  try {
    parsed = parseRecipe(bytes);
  } catch (error) {
    if (error instanceof Error && error.constructor.name === 'SlipwayError') return;
    throw error;
  }
  const again = parseRecipe(formatRecipe(parsed));
  expect(JSON.stringify(again) === JSON.stringify(parsed), 'a recipe reads back as something else');
}

/** Past the checksum, where the format itself is looked at. */
function withChecksum(input: Buffer): Buffer {
  if (input.length < 4) return input;
  const copy = Buffer.from(input);
  copy.writeUInt32LE(crc32(copy.subarray(0, -4)), copy.length - 4);
  return copy;
}

const packIndex: FuzzTarget = {
  name: 'pack-index',
  seeds: () => {
    const part = { hash: sha256('e'), rawLength: 90 };
    const frame = { offset: 16, length: 40, crc: 7, parts: [part] };
    return [
      formatPackIndex([{ ...frame, kind: FRAME_KIND.chunk }]),
      formatPackIndex([
        { ...frame, kind: FRAME_KIND.chunk, parts: [part, { ...part, hash: sha256('g') }] },
        { ...frame, offset: 56, kind: FRAME_KIND.recipe },
      ]),
      formatPackIndex([]),
      vector('cache/plain-v1.pack').subarray(-4000),
    ];
  },
  run: (input) => {
    if (input.length < TRAILER_BYTES) return;
    const length = packIndexLength(parsePackTrailer(input.subarray(-TRAILER_BYTES)));
    if (length > input.length) return;
    const frames = parsePackIndex(input.subarray(-length));
    const entries = frames.reduce((sum, { parts }) => sum + parts.length, 0);
    expect(entries * 56 < input.length, 'more entries than bytes');
  },
};

const frames: FuzzTarget = {
  name: 'zstd-frames',
  seeds: async () => [
    await encodeFrame(Buffer.from('a chunk of some bytes '.repeat(50))),
    zstdCompressSync('one'),
    Buffer.concat([zstdCompressSync('one'), zstdCompressSync('two')]),
    vector('cache/plain-v1.pack').subarray(0, 3000),
  ],
  run: async (input) => {
    const header = parseSingleFrame(input);
    if (header !== undefined) await decodeFrame(input, 1100).catch(refusedOrZlib);
    for (const step of [input.length, 3]) split(input, Math.max(1, step));
    await Promise.resolve();
  },
};

function split(input: Buffer, step: number): void {
  const splitter = new ZstdFrameSplitter();
  let bytes = 0;
  for (let at = 0; at < input.length; at += step)
    for (const part of splitter.push(input.subarray(at, at + step))) bytes += part.bytes.length;
  expect(bytes <= input.length, 'more bytes came out than went in');
  splitter.end();
}

/** A frame that zlib refuses is damage; callers tell it so. */
function refusedOrZlib(error: unknown): void {
  const { code } = error as { code?: unknown };
  if (typeof code === 'string' && /^(ZSTD_|ERR_BUFFER_TOO_LARGE|Z_)/.test(code)) return;
  throw error;
}

const patchedFrame: FuzzTarget = {
  name: 'patched-frame',
  seeds: async () => {
    const raw = Buffer.concat([Buffer.alloc(300, 'x'), Buffer.alloc(32, 'e'), Buffer.alloc(300, 'y')]);
    return [
      (await encodePatchedFrame(raw, [{ offset: 300, length: 32 }])) ?? Buffer.alloc(0),
      vector('cache/patched-v1.pack').subarray(0, 3000),
    ];
  },
  run: async (input) => {
    const places = findPlaces(input, input);
    const literals = places.map(({ length }) => Buffer.alloc(length, 'l'));
    const copy = Buffer.from(input);
    fillPlaces(copy, literals);
    expect(copy.length === input.length, 'filling changed the length');
    await isPatchedFrame(input, Buffer.alloc(632, 'x'), [{ offset: 300, length: 32 }]).catch(refusedOrZlib);
  },
};

const bundle: FuzzTarget = {
  name: 'upload-bundle',
  seeds: async () => {
    const frame = await encodeFrame(Buffer.alloc(40_000, 'chunk '));
    const chunk = { kind: 'chunk', hash: sha256('f'), rawLength: 20_000, patches: [] } as const;
    const two = { kind: 'frame', chunks: [chunk, chunk], frame } as const;
    const path = { kind: 'path', narInfo: vector('nix/tree.narinfo').toString() } as const;
    return [
      Buffer.concat([BUNDLE_MAGIC, ...formatRecord(two), ...formatRecord(chunk), ...formatRecord(path)]),
      BUNDLE_MAGIC,
    ];
  },
  words: ['SWU1', 'SWU2'],
  run: async (input) => {
    let records = 0;
    for await (const _ of readRecords(pieces(input, 1000))) records++;
    expect(records <= input.length, 'more records than bytes');
  },
};

function upload(compression: UploadCompression, seeds: () => Buffer[]): FuzzTarget {
  return {
    name: `upload-${compression}`,
    seeds,
    run: async (input) => {
      let size = 0;
      for await (const piece of decompressed(pieces(input, 4096), compression)) {
        size += piece.length;
        if (size > MOST_OUTPUT) break;
      }
    },
  };
}

const journal: FuzzTarget = {
  name: 'journal',
  seeds: () => [
    '{"format":"slipway-journal","version":1,"revision":1}',
    '{"table":"cache","row":{"name":"main","is_public":1}}',
    '{"table":"store_path","gone":{"cache_id":"main","hash":"1d6c"}}',
    'journal/000000000001-000000000024-5f0c9a3e',
    formatJournal(1, []),
  ],
  json: true,
  run: async (input) => {
    const text = input.toString();
    parseJournalKey(text);
    try {
      parseJournalLine(text);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error; // readJournal() takes it for the end of what can be read
    }
    await Promise.resolve();
  },
};

async function* pieces(input: Buffer, step: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < input.length; at += step) yield await Promise.resolve(input.subarray(at, at + step));
}

export const BINARY_TARGETS: readonly FuzzTarget[] = [
  nar,
  recipe,
  packIndex,
  frames,
  patchedFrame,
  bundle,
  upload('zstd', () => [
    zstdCompressSync('x'.repeat(500)),
    Buffer.concat([zstdCompressSync('a'), zstdCompressSync('b')]),
  ]),
  upload('xz', () => [XZ_SEED]),
  journal,
];
