// Ties the chunks that a recipe names to the content that is being committed, inside the caller's transaction.
// An upload may have counted on a chunk that garbage collection marked, or even removed, before the upload ended.
import type { Transaction } from 'kysely';
import type { Schema } from '../../storage/schema.ts';
import { SlipwayError } from '../../util/errors.ts';

const HASHES_A_QUERY = 500;

/** Takes marks off the chunks; throws `unavailable` when one of them is gone. */
export async function claimChunks(
  transaction: Transaction<Schema>,
  hashes: readonly Uint8Array[],
): Promise<void> {
  const unique = [...new Map(hashes.map((hash) => [Buffer.from(hash).toString('latin1'), hash])).values()];
  for (let from = 0; from < unique.length; from += HASHES_A_QUERY) {
    const batch = unique.slice(from, from + HASHES_A_QUERY);
    await transaction
      .updateTable('chunk')
      .set({ orphaned_at: null })
      .where('hash', 'in', batch)
      .where('orphaned_at', 'is not', null)
      .execute();
    const held = await transaction
      .selectFrom('chunk')
      .select((builder) => builder.fn.countAll<number>().as('count'))
      .where('hash', 'in', batch)
      .executeTakeFirstOrThrow();
    if (held.count !== batch.length) throw collected();
  }
}

function collected(): SlipwayError {
  return new SlipwayError(
    'unavailable',
    'The upload took so long that a part which was held at its start was removed meanwhile.',
    { next: 'Push it again.' },
  );
}
