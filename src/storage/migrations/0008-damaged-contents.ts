// Migration 8: an index of the few contents that are damaged. Whether one is, each look-up of a path asks: without the
// index that is a second row from the disk, found behind the recipe. Never edited once released.
import { sql, type Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';

export function damagedContentsMigration(): Migration {
  return {
    up: async (db: Kysely<unknown>) => {
      await sql`create index content_damaged on content (id, damaged_at) where damaged_at is not null`.execute(
        db,
      );
    },
  };
}
