// A content that some path in a cache that the uploader may read is made of: another path with the same bytes needs none.
import type { Transaction } from 'kysely';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import type { ChunkScope } from './held-chunks.ts';

export interface HeldContent {
  readonly contentId: number;
  readonly hash: Buffer;
  readonly size: number;
  readonly recipe: Uint8Array;
  readonly flatHash: Buffer | undefined;
}

export async function findHeldContent(
  database: Database,
  { readable }: ChunkScope,
  hash: Uint8Array,
): Promise<HeldContent | undefined> {
  const row = await database.read
    .selectFrom('content')
    .select(['id', 'hash', 'size', 'recipe', 'flat_hash'])
    .where('hash', '=', hash)
    .where('damaged_at', 'is', null)
    .where((where) =>
      where.exists(
        where
          .selectFrom('store_path')
          .select('store_path.hash')
          .whereRef('store_path.content_id', '=', 'content.id')
          .where('store_path.cache_id', 'in', readable)
          .where('store_path.quarantined_at', 'is', null),
      ),
    )
    .executeTakeFirst();
  if (row === undefined) return undefined;
  return {
    contentId: row.id,
    hash: Buffer.from(row.hash),
    size: row.size,
    recipe: row.recipe,
    flatHash: row.flat_hash === null ? undefined : Buffer.from(row.flat_hash),
  };
}

/** Whether it is still there, for the transaction that is to use it. */
export async function isHeld(transaction: Transaction<Schema>, contentId: number): Promise<boolean> {
  const row = await transaction
    .selectFrom('content')
    .select('id')
    .where('id', '=', contentId)
    .where('damaged_at', 'is', null)
    .executeTakeFirst();
  return row !== undefined;
}
