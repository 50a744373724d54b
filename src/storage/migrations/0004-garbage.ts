// Migration 4: what garbage collection needs: tombstones of paths, marks of orphaned chunks, retired packs, pins, the
// systems that hosts and releases hold, leases, and what past collections did. Never edited once released.
import type { Kysely, SchemaModule } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes, required, type ColumnTypes, type SqlEngine } from './column-types.ts';

export function garbageMigration(engine: SqlEngine): Migration {
  return { up: async (db: Kysely<unknown>) => await up(db.schema, columnTypes(engine)) };
}

async function up(schema: SchemaModule, types: ColumnTypes): Promise<void> {
  await extendCache(schema, types);
  await createPins(schema, types);
  await createFleetRoots(schema, types);
  await createLeases(schema, types);
  await createRuns(schema, types);
}

async function extendCache(schema: SchemaModule, { big }: ColumnTypes): Promise<void> {
  const added = [
    schema.alterTable('store_path').addColumn('tombstoned_at', big),
    schema.alterTable('chunk').addColumn('orphaned_at', big),
    schema.alterTable('pack').addColumn('retired_at', big),
    schema
      .alterTable('nar_upload')
      .addColumn('verbatim', 'integer', (column) => column.notNull().defaultTo(0)),
    schema
      .alterTable('cache')
      .addColumn('retention_by', 'text', (column) => column.notNull().defaultTo('use')),
    schema.alterTable('cache').addColumn('borrowed_bytes', big),
  ];
  for (const step of added) await step.execute();
}

async function createPins(schema: SchemaModule, { big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('pin')
    .addColumn('name', 'text', required)
    .addColumn('hash', 'text', required)
    .addColumn('store_path', 'text', required)
    .addColumn('created_at', big, required)
    .addPrimaryKeyConstraint('pin_key', ['name', 'hash'])
    .execute();
}

async function createFleetRoots(schema: SchemaModule, { big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('fleet_root')
    .addColumn('kind', 'text', required)
    .addColumn('host', 'text', required)
    .addColumn('toplevel', 'text', required)
    .addColumn('seen_at', big, required)
    .addPrimaryKeyConstraint('fleet_root_key', ['kind', 'host', 'toplevel'])
    .execute();
}

async function createLeases(schema: SchemaModule, { big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('lease')
    .addColumn('name', 'text', (column) => column.primaryKey().notNull())
    .addColumn('holder', 'text', required)
    .addColumn('expires_at', big, required)
    .execute();
}

async function createRuns(schema: SchemaModule, { id, big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('garbage_run')
    .addColumn('id', id)
    .addColumn('started_at', big, required)
    .addColumn('ended_at', big, required)
    .addColumn('report', 'text', required)
    .execute();
}
