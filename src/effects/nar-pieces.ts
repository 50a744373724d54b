// A path on disk as its NAR, read on the caller's thread: for uploads of whole stores, where what waiting costs in promises
// and threads is several times what reading does. Nothing is copied, no buffer is made for a file. What a tree may hold is
// as in nar-files.ts.
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs';
import { formatNarStrings, narPadding, writeNarLength } from '../nix/nar-writer.ts';
import { SlipwayError } from '../util/errors.ts';

const PIECE_BYTES = 256 * 1024;
/** More than what is added without looking for room: a name or a symlink's target, and the words around them. */
const LARGEST_NODE = 8 * 1024;
const READ_ONLY = constants.O_RDONLY | constants.O_NOFOLLOW;
const OWNER_EXECUTES = 0o100;

/** Pieces of some 256 KiB; each is the caller's own only until it asks for the next. */
export function* readNarPieces(path: string): Generator<Buffer> {
  const piece = new Piece();
  piece.add(WORDS.start);
  const root = Buffer.from(path);
  yield* writeNode(piece, { path: root, kind: kindOf(lstatSync(root)) });
  yield piece.take();
}

type Kind = 'directory' | 'symlink' | 'file' | 'other';

interface Found {
  readonly path: Buffer;
  readonly kind: Kind;
}

interface Facts {
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
  isFile(): boolean;
}

function kindOf(facts: Facts): Kind {
  if (facts.isFile()) return 'file';
  if (facts.isDirectory()) return 'directory';
  return facts.isSymbolicLink() ? 'symlink' : 'other';
}

const WORDS = {
  start: formatNarStrings('nix-archive-1'),
  directory: formatNarStrings('(', 'type', 'directory'),
  entry: formatNarStrings('entry', '(', 'name'),
  node: formatNarStrings('node'),
  symlink: formatNarStrings('(', 'type', 'symlink', 'target'),
  file: formatNarStrings('(', 'type', 'regular', 'contents'),
  executable: formatNarStrings('(', 'type', 'regular', 'executable', '', 'contents'),
  end: formatNarStrings(')'),
};

function* writeNode(piece: Piece, { path, kind }: Found): Generator<Buffer> {
  if (piece.room < LARGEST_NODE) yield piece.take();
  switch (kind) {
    case 'directory':
      return yield* writeDirectory(piece, path);
    case 'file':
      return yield* writeFile(piece, path);
    case 'symlink':
      piece.add(WORDS.symlink);
      piece.add(formatNarStrings(readlinkSync(path, { encoding: 'buffer' })));
      return piece.add(WORDS.end);
    default:
      throw new SlipwayError('invalid', `${path.toString()} is neither a file, a directory nor a symlink.`);
  }
}

function* writeDirectory(piece: Piece, path: Buffer): Generator<Buffer> {
  piece.add(WORDS.directory);
  const listed = readdirSync(path, { encoding: 'buffer', withFileTypes: true });
  for (const entry of listed.toSorted((a, b) => Buffer.compare(a.name, b.name))) {
    piece.add(WORDS.entry);
    piece.add(formatNarStrings(entry.name));
    piece.add(WORDS.node);
    yield* writeNode(piece, { path: Buffer.concat([path, SLASH, entry.name]), kind: kindOf(entry) });
    if (piece.room < LARGEST_NODE) yield piece.take();
    piece.add(WORDS.end);
  }
  piece.add(WORDS.end);
}

const SLASH = Buffer.from('/');

function* writeFile(piece: Piece, path: Buffer): Generator<Buffer> {
  const file = openSync(path, READ_ONLY);
  try {
    const facts = fstatSync(file);
    if (!facts.isFile()) throw changed(path);
    piece.add((facts.mode & OWNER_EXECUTES) === 0 ? WORDS.file : WORDS.executable);
    piece.length(facts.size);
    for (let left = facts.size; left > 0;) {
      if (piece.room === 0) yield piece.take();
      const read = piece.read(file, left);
      if (read === 0) throw changed(path);
      left -= read;
    }
    if (piece.room < LARGEST_NODE) yield piece.take();
    piece.padding(facts.size);
    piece.add(WORDS.end);
  } finally {
    closeSync(file);
  }
}

function changed(path: Buffer): SlipwayError {
  return new SlipwayError('invalid', `${path.toString()} was changed while it was read.`);
}

/** What was read and is not taken. */
class Piece {
  readonly #buffer = Buffer.allocUnsafeSlow(PIECE_BYTES);
  #size = 0;

  get room(): number {
    return PIECE_BYTES - this.#size;
  }

  add(bytes: Uint8Array): void {
    this.#buffer.set(bytes, this.#size);
    this.#size += bytes.length;
  }

  length(length: number): void {
    writeNarLength(this.#buffer, length, this.#size);
    this.#size += 8;
  }

  padding(length: number): void {
    const end = this.#size + narPadding(length);
    this.#buffer.fill(0, this.#size, end);
    this.#size = end;
  }

  /** Up to `most` bytes of the file; returns how many, 0 at its end. */
  read(file: number, most: number): number {
    const read = readSync(file, this.#buffer, this.#size, Math.min(most, this.room), null);
    this.#size += read;
    return read;
  }

  take(): Buffer {
    const taken = this.#buffer.subarray(0, this.#size);
    this.#size = 0;
    return taken;
  }
}
