// A recipe: how a content (a NAR, a log) is put together from chunks. Version 1 as in docs/FORMATS.md; the fields for
// literals and patches are in place for reference-normalised chunks, and empty under normaliser 0.
import { crc32 } from 'node:zlib';
import { SlipwayError } from '../util/errors.ts';
import { CHUNKER_VERSION } from './chunker.ts';

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
  /** SHA-256 of the chunk's bytes. */
  readonly hash: Uint8Array;
  readonly rawLength: number;
}

export function formatRecipe(recipe: Recipe): Buffer {
  const parts: Uint8Array[] = [
    MAGIC,
    Buffer.from([RECIPE_VERSION, CHUNKER_VERSION, PLAIN_NORMALISER]),
    formatVarint(recipe.size),
    recipe.hash,
    formatVarint(0), // literals
    formatVarint(recipe.chunks.length),
  ];
  for (const chunk of recipe.chunks) parts.push(chunk.hash, formatVarint(chunk.rawLength), NO_PATCHES);
  const body = Buffer.concat(parts);
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
  reader.expect(Buffer.from([PLAIN_NORMALISER]), 'normaliser');
  const size = reader.varint();
  const hash = reader.take(HASH_BYTES);
  reader.expect(Buffer.from([0]), 'literals');
  const count = reader.varint();
  const chunks = Array.from({ length: count }, () => {
    const chunk = { hash: reader.take(HASH_BYTES), rawLength: reader.varint() };
    reader.expect(NO_PATCHES, 'patches');
    return chunk;
  });
  reader.end();
  return { hash, size, chunks };
}

/** Unsigned LEB128, up to 2^53. */
export function formatVarint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}

const NO_PATCHES = formatVarint(0);

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

  varint(): number {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 49; scale *= 0x80) {
      const byte = this.take(1)[0] ?? 0;
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
