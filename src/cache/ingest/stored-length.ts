// How long the zstd stream of a content is, as it would be served now.
import type { Kysely } from 'kysely';
import type { Schema } from '../../storage/schema.ts';
import { parseRecipe } from '../../content/recipe.ts';
import { findPieces, storedLengthOf } from '../served-pieces.ts';
import { absentChunk } from './held-chunks.ts';

export async function storedLength(db: Kysely<Schema>, recipe: Uint8Array): Promise<number> {
  const pieces = await findPieces(db, parseRecipe(recipe));
  if (pieces === undefined) throw absentChunk();
  return pieces.reduce((sum, piece) => sum + storedLengthOf(piece), 0);
}
