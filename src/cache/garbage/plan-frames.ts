// Decides which stored chunks share a frame when packs are settled. Pure. Chunks that follow each other in a content lie
// together, as long as the same contents have them: then a frame goes out whole for each of these, and dies with them.
import { frameBytes } from '../../content/frame-codec.ts';
import { FrameGroups, type ChunkMeasure } from '../../content/frame-groups.ts';
import type { Recipe, RecipeChunk } from '../../content/recipe.ts';
import { chunkKey } from '../stored-chunks.ts';

/**
 * Groups of chunks, by chunkKey and each once, in the order of the recipes. Only those of `wanted` count; those that no
 * recipe has are left out.
 */
export function planFrames(recipes: readonly Recipe[], wanted: ReadonlySet<string>): string[][] {
  const owners = findOwners(recipes);
  const groups = new FrameGroups<RecipeChunk>(measure, frameBytes('thorough'));
  const placed = new Set<string>();
  for (const { chunks } of recipes) {
    groups.part();
    let before: number | undefined;
    for (const chunk of chunks) {
      const key = chunkKey(chunk.hash);
      const isNext = wanted.has(key) && !placed.has(key);
      const own = isNext ? owners.get(key) : undefined;
      if (own === undefined || own !== before) groups.part();
      if (isNext) {
        groups.add(chunk);
        placed.add(key);
      }
      before = own;
    }
  }
  return groups.groups.map((group) => group.map(({ hash }) => chunkKey(hash)));
}

function measure({ rawLength, patches }: RecipeChunk): ChunkMeasure {
  return { bytes: rawLength, places: patches?.length ?? 0 };
}

/** A number for each set of recipes: two chunks with the same one are as often in the same recipes, but for rare coincidence. */
function findOwners(recipes: readonly Recipe[]): Map<string, number> {
  const owners = new Map<string, number>();
  for (const [index, { chunks }] of recipes.entries())
    for (const { hash } of chunks) {
      const key = chunkKey(hash);
      owners.set(key, Math.imul((owners.get(key) ?? 7) + index + 1, 0x9e3779b1));
    }
  return owners;
}
