// A recipe: how a content (a NAR, a log) is put together from chunks. Version 1 as in docs/FORMATS.md. Under normaliser 0
// chunks are the content's bytes; under normaliser 1 some have places that are filled with literals from the recipe.
import { crc32 } from 'node:zlib';
import { SlipwayError } from '../util/errors.ts';
import { CHUNKER_VERSION } from './chunker.ts';
import { NORMALISER_VERSION } from './normaliser.ts';

const MAGIC = Buffer.from('SWR1');
const RECIPE_VERSION = 1;
const PLAIN_NORMALISER = 0;
const HASH_BYTES = 32;

export interface Recipe {
  /** SHA-256 of the content. */
  readonly hash: Uint8Array;
  readonly size: number;
  readonly chunks: readonly RecipeChunk[];
}

export interface RecipeChunk {
  /** Identity of the chunk, see chunk-identity.ts. */
  readonly hash: Uint8Array;
  readonly rawLength: number;
  /** What is to be filled in, in order; most chunks have nothing. */
  readonly patches?: readonly Patch[];
}

export interface Patch {
  /** From the start of the chunk. */
  readonly offset: number;
  readonly literal: Buffer;
}

export function formatRecipe(recipe: Recipe): Buffer {
  const literals = new LiteralTable();
  const chunks: Uint8Array[] = [];
  for (const { hash, rawLength, patches } of recipe.chunks)
    chunks.push(hash, formatVarint(rawLength), formatPatches(patches ?? [], literals));
  const normaliser = literals.size === 0 ? PLAIN_NORMALISER : NORMALISER_VERSION;
  const body = Buffer.concat([
    MAGIC,
    Buffer.from([RECIPE_VERSION, CHUNKER_VERSION, normaliser]),
    formatVarint(recipe.size),
    recipe.hash,
    literals.format(),
    formatVarint(recipe.chunks.length),
    ...chunks,
  ]);
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32LE(crc32(body));
  return Buffer.concat([body, checksum]);
}

/** Inverts formatRecipe. Damage is `internal`: recipes are only ever written by us. */
export function parseRecipe(bytes: Uint8Array): Recipe {
  const reader = new RecipeReader(verified(bytes));
  reader.expect(MAGIC, 'magic');
  reader.expect(Buffer.from([RECIPE_VERSION]), 'version');
  reader.take(1); // chunker: matters for sharing, not for reading
  const [normaliser = 0] = reader.take(1);
  if (normaliser > NORMALISER_VERSION) throw broken('normaliser');
  const size = reader.varint();
  const hash = reader.take(HASH_BYTES);
  const literals = Array.from({ length: reader.count() }, () => reader.take(reader.varint()));
  const chunks = Array.from({ length: reader.count() }, () => parseChunk(reader, literals));
  reader.end();
  return { hash, size, chunks };
}

function parseChunk(reader: RecipeReader, literals: readonly Buffer[]): RecipeChunk {
  const hash = reader.take(HASH_BYTES);
  const rawLength = reader.varint();
  const count = reader.varint();
  if (count === 0) return { hash, rawLength };
  const patches: Patch[] = [];
  for (let end = 0; patches.length < count;) {
    const offset = end + reader.varint();
    const literal = literals[reader.varint()];
    if (literal === undefined) throw broken('literal');
    patches.push({ offset, literal });
    end = offset + literal.length;
    if (end > rawLength) throw broken('patch');
  }
  return { hash, rawLength, patches };
}

function formatPatches(patches: readonly Patch[], literals: LiteralTable): Buffer {
  const parts = [formatVarint(patches.length)];
  let end = 0;
  for (const { offset, literal } of patches) {
    parts.push(formatVarint(offset - end), formatVarint(literals.indexOf(literal)));
    end = offset + literal.length;
  }
  return Buffer.concat(parts);
}

/** Every literal once, in the order of first use. */
class LiteralTable {
  readonly #indexes = new Map<string, number>();

  get size(): number {
    return this.#indexes.size;
  }

  indexOf(literal: Buffer): number {
    const key = literal.toString('latin1');
    const known = this.#indexes.get(key);
    if (known !== undefined) return known;
    this.#indexes.set(key, this.#indexes.size);
    return this.#indexes.size - 1;
  }

  format(): Buffer {
    const literals = [...this.#indexes.keys()].map((key) => Buffer.from(key, 'latin1'));
    return Buffer.concat([
      formatVarint(literals.length),
      ...literals.flatMap((literal) => [formatVarint(literal.length), literal]),
    ]);
  }
}

/** Unsigned LEB128, up to 2^53. */
export function formatVarint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}

function verified(bytes: Uint8Array): Buffer {
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const body = whole.subarray(0, -4);
  if (whole.length < 4 || crc32(body) !== whole.readUInt32LE(whole.length - 4)) throw broken('checksum');
  return body;
}

class RecipeReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  take(length: number): Buffer {
    const taken = this.#bytes.subarray(this.#at, this.#at + length);
    if (taken.length !== length) throw broken('length');
    this.#at += length;
    return taken;
  }

  expect(bytes: Buffer, what: string): void {
    if (!this.take(bytes.length).equals(bytes)) throw broken(what);
  }

  /** Of things that take a byte each at least: a larger one is damage, not a reason to ask for memory. */
  count(): number {
    const count = this.varint();
    if (count > this.#bytes.length) throw broken('count');
    return count;
  }

  varint(): number {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 49; scale *= 0x80) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw broken('length');
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw broken('number');
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw broken('length');
  }
}

function broken(field: string): SlipwayError {
  return new SlipwayError('internal', `A recipe cannot be read: wrong ${field}.`);
}
