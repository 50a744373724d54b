// Writes NAR archives from an abstract tree, piece by piece. Small pieces are gathered, large ones pass through.

export type NarNode =
  | {
      readonly type: 'regular';
      readonly executable: boolean;
      readonly size: number;
      contents(): AsyncIterable<Uint8Array>;
    }
  /** Targets and names are bytes to Nix; those that are not UTF-8 come as bytes. */
  | { readonly type: 'symlink'; readonly target: string | Uint8Array }
  | { readonly type: 'directory'; entries(): AsyncIterable<NarEntry> };

export interface NarEntry {
  readonly name: string | Uint8Array;
  readonly node: NarNode;
}

/** Pieces are at least this long, the last excepted. */
const PIECE_BYTES = 64 * 1024;

/** Entries must come sorted by the bytes of their names; file contents must have exactly `size` bytes. */
export async function* writeNar(root: NarNode): AsyncGenerator<Uint8Array> {
  const piece = new Piece();
  piece.strings('nix-archive-1');
  const directories: AsyncIterator<NarEntry>[] = [];
  try {
    for (let node: NarNode | undefined = root; node; node = await nextNode(directories, piece)) {
      if (node.type === 'directory') {
        directories.push(node.entries()[Symbol.asyncIterator]());
        piece.strings('(', 'type', 'directory');
        continue;
      }
      if (node.type === 'regular') yield* writeFile(node, piece);
      else piece.strings('(', 'type', 'symlink', 'target', node.target);
      endNode(directories, piece);
      if (piece.size >= PIECE_BYTES) yield piece.take();
    }
    yield piece.take();
  } finally {
    for (const directory of directories.toReversed()) await directory.return?.();
  }
}

/** The next entry's node; ends the directories that have no more entries. */
async function nextNode(directories: AsyncIterator<NarEntry>[], piece: Piece): Promise<NarNode | undefined> {
  for (let directory = directories.at(-1); directory; directory = directories.at(-1)) {
    const next = await directory.next();
    if (next.done !== true) {
      piece.strings('entry', '(', 'name', next.value.name, 'node');
      return next.value.node;
    }
    directories.pop();
    endNode(directories, piece);
  }
  return undefined;
}

/** Ends a node, and the entry that it stands in unless it is the root. */
function endNode(directories: readonly unknown[], piece: Piece): void {
  piece.strings(')');
  if (directories.length > 0) piece.strings(')');
}

async function* writeFile(
  file: Extract<NarNode, { type: 'regular' }>,
  piece: Piece,
): AsyncGenerator<Uint8Array> {
  piece.strings('(', 'type', 'regular', ...(file.executable ? ['executable', ''] : []), 'contents');
  piece.length(file.size);
  let written = 0;
  for await (const chunk of file.contents()) {
    written += chunk.length;
    piece.bytes(chunk);
    if (piece.size >= PIECE_BYTES) yield piece.take();
  }
  if (written !== file.size) throw new RangeError(`a file of ${file.size} bytes gave ${written}`);
  piece.padding(file.size);
}

/** Strings as they stand in a NAR: each with its length before it and zeros after it, up to a multiple of 8 bytes. */
export function formatNarStrings(...texts: readonly (string | Uint8Array)[]): Buffer {
  const strings = texts.map((text) => (typeof text === 'string' ? Buffer.from(text) : text));
  const size = strings.reduce((sum, { length }) => sum + 8 + length + narPadding(length), 0);
  const bytes = Buffer.alloc(size);
  let at = 0;
  for (const string of strings) {
    writeNarLength(bytes, string.length, at);
    bytes.set(string, at + 8);
    at += 8 + string.length + narPadding(string.length);
  }
  return bytes;
}

/** 8 bytes. */
export function writeNarLength(bytes: Buffer, length: number, at: number): void {
  bytes.writeUInt32LE(length % 2 ** 32, at);
  bytes.writeUInt32LE(Math.floor(length / 2 ** 32), at + 4);
}

/** How many zeros follow a string of this length. */
export function narPadding(length: number): number {
  return (8 - (length % 8)) % 8;
}

const ZEROS = new Uint8Array(8);

/** Bytes on their way out. */
class Piece {
  size = 0;
  #parts: Uint8Array[] = [];

  strings(...texts: readonly (string | Uint8Array)[]): void {
    this.bytes(formatNarStrings(...texts));
  }

  length(length: number): void {
    const field = Buffer.alloc(8);
    writeNarLength(field, length, 0);
    this.bytes(field);
  }

  bytes(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.size += bytes.length;
  }

  padding(length: number): void {
    if (length % 8 !== 0) this.bytes(ZEROS.subarray(0, narPadding(length)));
  }

  take(): Uint8Array {
    const [first] = this.#parts;
    const whole = this.#parts.length === 1 && first ? first : Buffer.concat(this.#parts, this.size);
    this.#parts = [];
    this.size = 0;
    return whole;
  }
}
