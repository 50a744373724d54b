// Migration 10: how often caches were asked for paths, and had them. Never edited once released.
import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes, required, type SqlEngine } from './column-types.ts';

export function lookupsMigration(engine: SqlEngine): Migration {
  return {
    up: async ({ schema }: Kysely<unknown>) => {
      const { big } = columnTypes(engine);
      await schema
        .createTable('lookup_day')
        .addColumn('cache_id', big, (column) => column.notNull().references('cache.id').onDelete('cascade'))
        .addColumn('day', big, required)
        .addColumn('hits', big, required)
        .addColumn('misses', big, required)
        .addPrimaryKeyConstraint('lookup_day_key', ['cache_id', 'day'])
        .execute();
    },
  };
}
