// How a content is put together from frames. A frame whose chunks the content has one after another goes out as it is
// stored. Of any other frame a part is needed: that is decoded and goes out in raw blocks (raw-frame.ts).
import type { Kysely } from 'kysely';
import { rawFrameLength } from '../content/raw-frame.ts';
import type { Patch, Recipe } from '../content/recipe.ts';
import type { Schema } from '../storage/schema.ts';
import { chunkKey, locateChunks, type StoredChunk, type StoredFrame } from './stored-chunks.ts';

const CHUNKS_A_QUERY = 500;

/** A run of the content that comes from one frame. */
export interface Piece {
  readonly frame: StoredFrame;
  /** What of the decoded frame it is. */
  readonly start: number;
  readonly end: number;
  /** What is to be filled in, from the piece's start, in order. */
  readonly patches: readonly Patch[];
}

export function isWhole({ frame, start, end }: Piece): boolean {
  return start === 0 && end === frame.rawLength;
}

/** Length of the piece in the zstd stream of its content. */
export function storedLengthOf(piece: Piece): number {
  return isWhole(piece) ? piece.frame.length : rawFrameLength(piece.end - piece.start);
}

/** Gathers the pieces of a content; takes its chunks in order, and may be given them a few at a time. */
export class PiecePlan {
  readonly pieces: Piece[] = [];
  #last: GrowingPiece | undefined;

  add({ frame, offset, rawLength }: StoredChunk, patches: readonly Patch[] = NONE): void {
    if (this.#last !== undefined && goesOn(this.#last, frame, offset)) extend(this.#last, rawLength, patches);
    else this.pieces.push((this.#last = { frame, start: offset, end: offset + rawLength, patches }));
  }
}

/** The pieces of a recipe; `undefined` when one of its chunks is not to be found. */
export async function findPieces(db: Kysely<Schema>, recipe: Recipe): Promise<Piece[] | undefined> {
  const plan = new PiecePlan();
  for (let from = 0; from < recipe.chunks.length; from += CHUNKS_A_QUERY) {
    const chunks = recipe.chunks.slice(from, from + CHUNKS_A_QUERY);
    const stored = await locateChunks(
      db,
      chunks.map(({ hash }) => hash),
    );
    for (const { hash, patches } of chunks) {
      const chunk = stored.get(chunkKey(hash));
      if (chunk === undefined) return undefined;
      plan.add(chunk, patches);
    }
  }
  return plan.pieces;
}

interface GrowingPiece extends Piece {
  end: number;
  patches: readonly Patch[];
}

const NONE: readonly Patch[] = [];

function goesOn(piece: Piece, frame: StoredFrame, offset: number): boolean {
  return piece.frame.blobKey === frame.blobKey && piece.frame.offset === frame.offset && piece.end === offset;
}

function extend(piece: GrowingPiece, rawLength: number, patches: readonly Patch[]): void {
  const before = piece.end - piece.start;
  const shifted = patches.map(({ offset, literal }) => ({ offset: before + offset, literal }));
  if (shifted.length > 0) piece.patches = [...piece.patches, ...shifted];
  piece.end += rawLength;
}
