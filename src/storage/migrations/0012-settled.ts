// Migration 12: how much of a pack was stored quickly and is to be compressed well. Never edited once released.
import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes, type SqlEngine } from './column-types.ts';

export function settledMigration(engine: SqlEngine): Migration {
  const { big } = columnTypes(engine);
  return {
    up: async (db: Kysely<unknown>) => {
      await db.schema.alterTable('pack').addColumn('unsettled_bytes', big).execute();
    },
  };
}
