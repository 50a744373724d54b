// Puts a NAR together again from the chunks of an upload, to prove it before anybody can see it: its grammar, its length
// and its SHA-256. The bytes go no further; what remains is the recipe.
import { createHash } from 'node:crypto';
import { isChunkLength } from '../../content/bundle-format.ts';
import { formatRecipe, type Patch, type RecipeChunk } from '../../content/recipe.ts';
import { NarReader } from '../../nix/nar-reader.ts';
import { SlipwayError } from '../../util/errors.ts';
import { FlatHash } from './flat-hash.ts';

export interface RestoredNar {
  readonly hash: Buffer;
  readonly size: number;
  readonly recipe: Buffer;
  readonly chunks: readonly RecipeChunk[];
  readonly flatHash: Buffer | undefined;
}

export class NarRestorer {
  readonly hash: Buffer;
  readonly size: number;
  readonly #digest = createHash('sha256');
  readonly #flat = new FlatHash();
  readonly #reader: NarReader;
  readonly #chunks: RecipeChunk[] = [];
  #restored = 0;

  /** `hash` and `size` as the uploader says. */
  constructor(hash: Buffer, size: number) {
    this.hash = Buffer.from(hash); // a view on a piece of the request would keep all of it
    this.size = size;
    this.#reader = new NarReader(this.#flat, { maxSize: size });
  }

  /** How many chunks were taken. */
  get count(): number {
    return this.#chunks.length;
  }

  get isComplete(): boolean {
    return this.#restored >= this.size;
  }

  /** Takes the next chunk, its places filled in. Fails with `nar_invalid` when no NAR begins like this. */
  write(chunk: { readonly hash: Buffer; readonly patches: readonly Patch[] }, bytes: Uint8Array): void {
    const end = this.#restored + bytes.length;
    if (end > this.size) throw invalid('it has more bytes than it was said to have');
    if (!isChunkLength(bytes.length, end === this.size))
      throw invalid('it is cut into chunks that are too small');
    this.#reader.write(bytes);
    this.#digest.update(bytes);
    this.#restored = end;
    const patches = chunk.patches.map(({ offset, literal }) => ({ offset, literal: Buffer.from(literal) }));
    this.#chunks.push({
      hash: Buffer.from(chunk.hash),
      rawLength: bytes.length,
      ...(patches.length > 0 && { patches }),
    });
  }

  /** To be called once it is complete. */
  finish(): RestoredNar {
    this.#reader.end();
    const { hash, size } = this;
    if (!this.#digest.digest().equals(hash))
      throw new SlipwayError('nar_hash_mismatch', 'The chunks of the upload make a NAR with another hash.', {
        next: 'Check the path where it was built: nix store verify --no-trust <path>',
      });
    const recipe = formatRecipe({ hash, size, chunks: this.#chunks });
    return { hash, size, recipe, chunks: this.#chunks, flatHash: this.#flat.hash() };
  }
}

function invalid(why: string): SlipwayError {
  return new SlipwayError('nar_invalid', `The NAR is refused: ${why}.`);
}
