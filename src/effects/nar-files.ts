// A path on disk as a tree for the NAR writer: no symlink is followed, names are sorted by their bytes, large files are
// read in pieces. What is neither file, directory nor symlink cannot be in a store and is refused.
import { constants } from 'node:fs';
import { lstat, open, readdir, readFile, readlink } from 'node:fs/promises';
import type { NarEntry, NarNode } from '../nix/nar-writer.ts';
import { SlipwayError } from '../util/errors.ts';

const READ_SIZE = 256 * 1024;
const READ_ONLY = constants.O_RDONLY | constants.O_NOFOLLOW;
const OWNER_EXECUTES = 0o100;
/** Entries that are looked at together: one after the other, waiting would take most of the time. */
const BATCH = 32;

/** The node at `path`; directories are listed only when the writer comes to them. Paths are bytes, as names are to Nix. */
export async function readNarNode(path: string | Buffer): Promise<NarNode> {
  const facts = await lstat(path);
  if (facts.isSymbolicLink())
    return { type: 'symlink', target: await readlink(path, { encoding: 'buffer' }) };
  if (facts.isDirectory()) return { type: 'directory', entries: () => readEntries(Buffer.from(path)) };
  if (!facts.isFile())
    throw new SlipwayError('invalid', `${path.toString()} is neither a file, a directory nor a symlink.`);
  const { size } = facts;
  const executable = (facts.mode & OWNER_EXECUTES) !== 0;
  return {
    type: 'regular',
    size,
    executable,
    contents: () => readContents(path, size),
  };
}

async function* readEntries(path: Buffer): AsyncGenerator<NarEntry> {
  const listed = await readdir(path, { encoding: 'buffer' });
  const names = listed.toSorted((a, b) => Buffer.compare(a, b));
  for (let at = 0; at < names.length; at += BATCH) {
    yield* await Promise.all(names.slice(at, at + BATCH).map((name) => readEntry(path, name)));
  }
}

async function readEntry(directory: Buffer, name: Buffer): Promise<NarEntry> {
  return { name, node: await readNarNode(Buffer.concat([directory, Buffer.from('/'), name])) };
}

async function* readContents(path: string | Buffer, size: number): AsyncGenerator<Uint8Array> {
  if (size <= READ_SIZE) {
    yield await readFile(path, { flag: READ_ONLY });
    return;
  }
  const file = await open(path, READ_ONLY);
  yield* file.createReadStream({ highWaterMark: READ_SIZE }) as AsyncIterable<Uint8Array>;
}
