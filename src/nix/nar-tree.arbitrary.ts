// Random trees for NAR round trips: generators beside the types that they make.
import fc from 'fast-check';
import type { NarEntry, NarNode } from './nar-writer.ts';

export type PlainTree =
  | { readonly type: 'regular'; readonly executable: boolean; readonly bytes: Uint8Array }
  | { readonly type: 'symlink'; readonly target: string }
  | { readonly type: 'directory'; readonly entries: Readonly<Record<string, PlainTree>> };

const name = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
  .filter((text) => !/[/\0]/.test(text) && text !== '.' && text !== '..' && text !== '__proto__');

export const plainTree: fc.Arbitrary<PlainTree> = fc.letrec<{ tree: PlainTree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4 },
    fc.record({
      type: fc.constant('regular' as const),
      executable: fc.boolean(),
      bytes: fc.uint8Array({ maxLength: 70 }),
    }),
    fc.record({ type: fc.constant('symlink' as const), target: fc.stringMatching(/^[a-z./]{1,30}$/) }),
    fc.record({
      type: fc.constant('directory' as const),
      entries: fc.dictionary(name, tie('tree'), { maxKeys: 5 }),
    }),
  ),
})).tree;

export function toNarNode(tree: PlainTree): NarNode {
  if (tree.type === 'symlink') return tree;
  if (tree.type === 'directory') return { type: 'directory', entries: () => sortedEntries(tree.entries) };
  const { bytes, executable } = tree;
  return { type: 'regular', executable, size: bytes.length, contents: () => pieces(bytes) };
}

async function* sortedEntries(entries: Readonly<Record<string, PlainTree>>): AsyncGenerator<NarEntry> {
  const byBytes = (a: [string, PlainTree], b: [string, PlainTree]): number =>
    Buffer.compare(Buffer.from(a[0]), Buffer.from(b[0]));
  for (const [name, tree] of Object.entries(entries).toSorted(byBytes)) yield { name, node: toNarNode(tree) };
}

async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 13) yield bytes.subarray(at, at + 13);
}
