// A path on disk as a tree for the NAR writer: no symlink is followed, names are sorted by their bytes, files are
// read in pieces. What is neither file, directory nor symlink cannot be in a store and is refused.
import { createReadStream } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import type { NarEntry, NarNode } from '../nix/nar-writer.ts';
import { SlipwayError } from '../util/errors.ts';

const READ_SIZE = 256 * 1024;
const OWNER_EXECUTES = 0o100;

/** The node at `path`; directories are listed only when the writer comes to them. */
export async function readNarNode(path: string): Promise<NarNode> {
  const facts = await lstat(path);
  if (facts.isSymbolicLink()) return { type: 'symlink', target: await readlink(path) };
  if (facts.isDirectory()) return { type: 'directory', entries: () => readEntries(path) };
  if (!facts.isFile())
    throw new SlipwayError('invalid', `${path} is neither a file, a directory nor a symlink.`);
  return {
    type: 'regular',
    size: facts.size,
    executable: (facts.mode & OWNER_EXECUTES) !== 0,
    contents: () => createReadStream(path, { highWaterMark: READ_SIZE }),
  };
}

async function* readEntries(path: string): AsyncGenerator<NarEntry> {
  const names = await readdir(path, { encoding: 'buffer' });
  for (const name of names.toSorted((a, b) => Buffer.compare(a, b))) {
    const text = decodeName(name, path);
    yield { name: text, node: await readNarNode(`${path}/${text}`) };
  }
}

function decodeName(name: Buffer, path: string): string {
  const text = name.toString();
  if (Buffer.from(text).equals(name)) return text;
  throw new SlipwayError('invalid', `${path} holds a file whose name is not UTF-8.`);
}
