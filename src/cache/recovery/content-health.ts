// Which contents are whole: marks those that lack a chunk, and takes the mark off those that lack none any more.
import type { Kysely } from 'kysely';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { parseRecipe } from '../../content/recipe.ts';

const CONTENTS_A_QUERY = 100;
const HASHES_A_QUERY = 500;

/** Looks at every content; returns how many are damaged now. Their paths count as absent and heal by a push. */
export async function markIncompleteContents(database: Database): Promise<number> {
  let damaged = 0;
  for await (const { id, whole, marked } of checkContents(database.read)) {
    if (!whole) damaged++;
    if (whole !== marked) continue;
    const damaged_at = whole ? null : Date.now();
    await database.write(
      async (transaction) =>
        await transaction.updateTable('content').set({ damaged_at }).where('id', '=', id).execute(),
    );
  }
  return damaged;
}

export interface ContentHealth {
  readonly id: number;
  /** Every chunk is held and none is known to be damaged. */
  readonly whole: boolean;
  /** What the database says so far. */
  readonly marked: boolean;
}

export async function* checkContents(db: Kysely<Schema>): AsyncGenerator<ContentHealth> {
  for (let after = 0; ;) {
    const rows = await db
      .selectFrom('content')
      .select(['id', 'recipe', 'damaged_at'])
      .where('id', '>', after)
      .orderBy('id')
      .limit(CONTENTS_A_QUERY)
      .execute();
    for (const { id, recipe, damaged_at } of rows)
      yield { id, whole: await isWhole(db, recipe), marked: damaged_at !== null };
    const last = rows.at(-1);
    if (last === undefined || rows.length < CONTENTS_A_QUERY) return;
    after = last.id;
  }
}

/** Whether all chunks of the recipe are held intact. */
export async function isWhole(db: Kysely<Schema>, recipe: Uint8Array): Promise<boolean> {
  const hashes = new Map(
    parseRecipe(recipe).chunks.map(({ hash }) => [Buffer.from(hash).toString('latin1'), hash]),
  );
  const unique = [...hashes.values()];
  for (let from = 0; from < unique.length; from += HASHES_A_QUERY) {
    const batch = unique.slice(from, from + HASHES_A_QUERY);
    const whole = await db
      .selectFrom('chunk')
      .select((builder) => builder.fn.countAll<number>().as('count'))
      .where('hash', 'in', batch)
      .where('damaged_at', 'is', null)
      .executeTakeFirstOrThrow();
    if (whole.count !== batch.length) return false;
  }
  return true;
}
