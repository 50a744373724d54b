// Migration 3: who wrote what and how far it is trusted: overlays of contributors, origins of paths, quarantine;
// more settings of caches; what a token's holder proved about itself. Never edited once released.
import type { Kysely, SchemaModule } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes, required, type ColumnTypes, type SqlEngine } from './column-types.ts';

export function trustMigration(engine: SqlEngine): Migration {
  return { up: async (db: Kysely<unknown>) => await up(db.schema, columnTypes(engine)) };
}

async function up(schema: SchemaModule, types: ColumnTypes): Promise<void> {
  await extendCaches(schema, types);
  await extendPaths(schema, types);
  await extendTokens(schema);
  await createOrigins(schema, types);
}

async function extendCaches(schema: SchemaModule, { big }: ColumnTypes): Promise<void> {
  const added = [
    schema.alterTable('cache').addColumn('base_id', big),
    schema.alterTable('cache').addColumn('upstream_keys', 'text', (column) => column.notNull().defaultTo('')),
    schema.alterTable('cache').addColumn('accepted_keys', 'text', (column) => column.notNull().defaultTo('')),
    schema.alterTable('cache').addColumn('agreement', 'integer', (column) => column.notNull().defaultTo(0)),
    schema.alterTable('cache').addColumn('retention_ms', big),
    schema.alterTable('cache').addColumn('quota_bytes', big),
    schema.alterTable('cache').addColumn('epoch', big, (column) => column.notNull().defaultTo(0)),
  ];
  for (const step of added) await step.execute();
}

async function extendPaths(schema: SchemaModule, { big }: ColumnTypes): Promise<void> {
  await schema.alterTable('store_path').addColumn('quarantined_at', big).execute();
  await schema.createIndex('store_path_by_writer').on('store_path').column('writer').execute();
}

async function extendTokens(schema: SchemaModule): Promise<void> {
  await schema.alterTable('access_token').addColumn('identity', 'text').execute();
  await schema.alterTable('access_token').addColumn('claims', 'text').execute();
}

async function createOrigins(schema: SchemaModule, { id, big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('path_origin')
    .addColumn('id', id)
    .addColumn('cache_id', big, (column) => column.notNull().references('cache.id').onDelete('cascade'))
    .addColumn('hash', 'text', required)
    .addColumn('store_path', 'text', required)
    .addColumn('nar_hash', 'text', required)
    .addColumn('writer', 'text', required)
    .addColumn('writer_name', 'text', required)
    .addColumn('token', 'text', required)
    .addColumn('way', 'text', required)
    .addColumn('claims', 'text')
    .addColumn('address', 'text')
    .addColumn('signatures', 'text', required)
    .addColumn('created_at', big, required)
    .addUniqueConstraint('path_origin_once', ['cache_id', 'hash', 'writer', 'nar_hash', 'way'])
    .execute();
  await schema.createIndex('path_origin_by_writer').on('path_origin').column('writer').execute();
}
