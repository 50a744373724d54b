import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { NarReader, type NarLimits } from './nar-reader.ts';
import { plainTree, toNarNode, type PlainTree } from './nar-tree.arbitrary.ts';
import { writeNar } from './nar-writer.ts';

const WRITTEN_BY_NIX = readFileSync(path.join(import.meta.dirname, '../../test/vectors/nix/tree.nar'));

async function narOf(tree: PlainTree): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(writeNar(toNarNode(tree))));
}

/** Reads a NAR back into a tree, in steps of `step` bytes. */
function treeOf(nar: Uint8Array, step: number, limits?: Partial<NarLimits>): PlainTree {
  const found: { tree: PlainTree | undefined } = { tree: undefined };
  const open: { name: string; entries: Record<string, PlainTree> }[] = [];
  let file: { name: string; executable: boolean; chunks: Uint8Array[] } | undefined;
  const add = (name: string, tree: PlainTree): void => {
    const parent = open.at(-1);
    if (parent) parent.entries[name] = tree;
    else found.tree = tree;
  };
  const reader = new NarReader(
    {
      enterDirectory: (at) => void open.push({ name: at.at(-1) ?? '', entries: {} }),
      leaveDirectory: () => {
        const closed = open.pop();
        if (closed) add(closed.name, { type: 'directory', entries: closed.entries });
      },
      startFile: (at, facts) => (file = { name: at.at(-1) ?? '', executable: facts.executable, chunks: [] }),
      fileData: (chunk) => void file?.chunks.push(Uint8Array.from(chunk)),
      endFile: () => {
        if (file)
          add(file.name, {
            type: 'regular',
            executable: file.executable,
            bytes: new Uint8Array(Buffer.concat(file.chunks)),
          });
      },
      symlink: (at, target) => add(at.at(-1) ?? '', { type: 'symlink', target }),
    },
    limits,
  );
  for (let at = 0; at < nar.length; at += step) reader.write(nar.subarray(at, at + step));
  reader.end();
  assert.ok(found.tree);
  return found.tree;
}

function plain(tree: PlainTree): unknown {
  return JSON.parse(
    JSON.stringify(tree, (_key, value: unknown) => (value instanceof Uint8Array ? [...value] : value)),
  );
}

test('NarReader reads back what writeNar() wrote, however the bytes are cut', async () => {
  await fc.assert(
    fc.asyncProperty(plainTree, fc.integer({ min: 1, max: 40 }), async (tree, step) => {
      const again = treeOf(await narOf(tree), step);
      assert.deepEqual(await narOf(again), await narOf(tree));
    }),
  );
});

test('NarReader reads what nix-store --dump wrote, and writeNar() writes the same bytes', async () => {
  const tree = treeOf(WRITTEN_BY_NIX, 11);
  assert.deepEqual(Object.keys((plain(tree) as { entries: object }).entries), ['a', 'empty', 'run', 'zz']);
  assert.deepEqual(await narOf(tree), WRITTEN_BY_NIX);
});

test('NarReader refuses every NAR cut short', () => {
  for (let length = 0; length < WRITTEN_BY_NIX.length; length++) {
    assert.throws(() => treeOf(WRITTEN_BY_NIX.subarray(0, length), 64), { code: 'nar_invalid' });
  }
});

test('NarReader never crashes on a NAR with one byte changed', () => {
  fc.assert(
    fc.property(fc.nat(WRITTEN_BY_NIX.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const bent = Buffer.from(WRITTEN_BY_NIX);
      bent[at] = (bent[at] ?? 0) ^ change;
      try {
        treeOf(bent, 1000);
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'nar_invalid');
      }
    }),
  );
});

const str = (text: string | Uint8Array): Buffer => {
  const bytes = Buffer.from(text);
  const padded = Buffer.alloc(8 + Math.ceil(bytes.length / 8) * 8);
  padded.writeBigUInt64LE(BigInt(bytes.length));
  bytes.copy(padded, 8);
  return padded;
};
const strs = (...texts: (string | Uint8Array)[]): Buffer => Buffer.concat(texts.map(str));
const MAGIC = 'nix-archive-1';
const FILE = ['(', 'type', 'regular', 'contents', 'x', ')'];
const entry = (name: string | Uint8Array, node = FILE): (string | Uint8Array)[] => [
  'entry',
  '(',
  'name',
  name,
  'node',
  ...node,
  ')',
];
const directory = (...entries: (string | Uint8Array)[][]): Buffer =>
  strs(MAGIC, '(', 'type', 'directory', ...entries.flat(), ')');

const HOSTILE: readonly [string, () => Buffer, Partial<NarLimits>?][] = [
  ['another magic', () => strs('nix-archive-2', ...FILE)],
  ['trailing bytes', () => Buffer.concat([strs(MAGIC, ...FILE), Buffer.alloc(1)])],
  ['a second archive', () => strs(MAGIC, ...FILE, MAGIC, ...FILE)],
  ['an unknown node type', () => strs(MAGIC, '(', 'type', 'device', ')')],
  ['an unknown field', () => strs(MAGIC, '(', 'type', 'regular', 'mode', '777', ')')],
  ['a file without contents', () => strs(MAGIC, '(', 'type', 'regular', ')')],
  ['contents twice', () => strs(MAGIC, '(', 'type', 'regular', 'contents', 'a', 'contents', 'b', ')')],
  [
    'an executable field with a value',
    () => strs(MAGIC, '(', 'type', 'regular', 'executable', 'yes', 'contents', '', ')'),
  ],
  ['unsorted entries', () => directory(entry('b'), entry('a'))],
  ['an entry twice', () => directory(entry('a'), entry('a'))],
  ['an empty name', () => directory(entry(''))],
  ['the name .', () => directory(entry('.'))],
  ['the name ..', () => directory(entry('..'))],
  ['a name with a slash', () => directory(entry('a/b'))],
  ['a name with NUL', () => directory(entry('a\0b'))],
  ['a name over 255 bytes', () => directory(entry('n'.repeat(256)))],
  ['an entry without node', () => strs(MAGIC, '(', 'type', 'directory', 'entry', '(', 'name', 'a', ')', ')')],
  ['an empty symlink target', () => strs(MAGIC, '(', 'type', 'symlink', 'target', '', ')')],
  ['a symlink target with NUL', () => strs(MAGIC, '(', 'type', 'symlink', 'target', 'a\0', ')')],
  [
    'padding that is not zero',
    () => {
      const nar = strs(MAGIC, ...FILE);
      nar[8 + 13] = 1;
      return nar;
    },
  ],
  [
    'content padding that is not zero',
    () => {
      const nar = strs(MAGIC, ...FILE);
      nar[nar.lastIndexOf('x') + 1] = 1;
      return nar;
    },
  ],
  ['an absurd length', () => Buffer.concat([strs(MAGIC), Buffer.alloc(8, 0xff)])],
  ['a keyword of a gigabyte', () => Buffer.concat([strs(MAGIC), Buffer.from([0, 0, 0, 0x40, 0, 0, 0, 0])])],
  [
    'directories without end',
    () =>
      strs(
        MAGIC,
        ...Array.from({ length: 300 }, () => [
          '(',
          'type',
          'directory',
          'entry',
          '(',
          'name',
          'd',
          'node',
        ]).flat(),
      ),
  ],
  ['more bytes than allowed', () => strs(MAGIC, ...FILE), { maxSize: 64 }],
  [
    'a file announced larger than allowed',
    () =>
      Buffer.concat([strs(MAGIC, '(', 'type', 'regular', 'contents'), Buffer.from([0, 0, 1, 0, 0, 0, 0, 0])]),
    { maxSize: 1024 },
  ],
];

for (const [what, make, limits] of HOSTILE) {
  test(`NarReader refuses ${what}`, () => {
    for (const step of [1, 7, 100_000])
      assert.throws(() => treeOf(make(), step, limits), { code: 'nar_invalid' });
  });
}
