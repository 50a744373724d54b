// Writes NAR archives from an abstract tree, piece by piece.

export type NarNode =
  | {
      readonly type: 'regular';
      readonly executable: boolean;
      readonly size: number;
      contents(): AsyncIterable<Uint8Array>;
    }
  | { readonly type: 'symlink'; readonly target: string }
  | { readonly type: 'directory'; entries(): AsyncIterable<NarEntry> };

export interface NarEntry {
  readonly name: string;
  readonly node: NarNode;
}

/** Entries must come sorted by the bytes of their names; file contents must have exactly `size` bytes. */
export async function* writeNar(root: NarNode): AsyncGenerator<Uint8Array> {
  yield narString('nix-archive-1');
  yield* writeNode(root);
}

async function* writeNode(node: NarNode): AsyncGenerator<Uint8Array> {
  if (node.type === 'symlink') yield narStrings('(', 'type', 'symlink', 'target', node.target, ')');
  else if (node.type === 'regular') yield* writeFile(node);
  else yield* writeDirectory(node);
}

async function* writeDirectory(node: Extract<NarNode, { type: 'directory' }>): AsyncGenerator<Uint8Array> {
  yield narStrings('(', 'type', 'directory');
  for await (const entry of node.entries()) {
    yield narStrings('entry', '(', 'name', entry.name, 'node');
    yield* writeNode(entry.node);
    yield narString(')');
  }
  yield narString(')');
}

async function* writeFile(file: Extract<NarNode, { type: 'regular' }>): AsyncGenerator<Uint8Array> {
  yield narStrings('(', 'type', 'regular', ...(file.executable ? ['executable', ''] : []), 'contents');
  yield lengthField(file.size);
  let written = 0;
  for await (const chunk of file.contents()) {
    written += chunk.length;
    yield chunk;
  }
  if (written !== file.size) throw new RangeError(`a file of ${file.size} bytes gave ${written}`);
  const padding = (8 - (file.size % 8)) % 8;
  if (padding > 0) yield new Uint8Array(padding);
  yield narString(')');
}

function narStrings(...texts: readonly string[]): Uint8Array {
  return Buffer.concat(texts.map(narString));
}

function narString(text: string): Uint8Array {
  const bytes = Buffer.from(text);
  const padded = Buffer.alloc(8 + Math.ceil(bytes.length / 8) * 8);
  padded.writeBigUInt64LE(BigInt(bytes.length));
  bytes.copy(padded, 8);
  return padded;
}

function lengthField(length: number): Uint8Array {
  const field = Buffer.alloc(8);
  field.writeBigUInt64LE(BigInt(length));
  return field;
}
