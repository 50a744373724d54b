// Migration 1: tokens, caches, packs, chunks, contents and published paths. Never edited once released.
import type { Kysely, SchemaModule } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes, required, type ColumnTypes, type SqlEngine } from './column-types.ts';

export function cacheMigration(engine: SqlEngine): Migration {
  return { up: async (db: Kysely<unknown>) => await up(db.schema, columnTypes(engine)) };
}

async function up(schema: SchemaModule, types: ColumnTypes): Promise<void> {
  await createTokens(schema, types);
  await createCaches(schema, types);
  await createChunks(schema, types);
  await createContents(schema, types);
  await createUploads(schema, types);
  await createPaths(schema, types);
  await createConflicts(schema, types);
  await createSideFiles(schema, types);
}

async function createTokens(schema: SchemaModule, { bytes, big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('access_token')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('name', 'text', required)
    .addColumn('secret_hash', bytes, required)
    .addColumn('scopes', 'text', required)
    .addColumn('created_at', big, required)
    .addColumn('expires_at', big)
    .addColumn('revoked_at', big)
    .addColumn('last_used_at', big)
    .execute();
}

async function createCaches(schema: SchemaModule, { id, big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('cache')
    .addColumn('id', id)
    .addColumn('name', 'text', (column) => column.notNull().unique())
    .addColumn('is_public', 'integer', required)
    .addColumn('priority', 'integer', required)
    .addColumn('store_dir', 'text', required)
    .addColumn('closed', 'integer', required)
    .addColumn('created_at', big, required)
    .execute();
}

async function createChunks(schema: SchemaModule, { id, bytes, big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('pack')
    .addColumn('id', id)
    .addColumn('blob_key', 'text', (column) => column.notNull().unique())
    .addColumn('size', big, required)
    .addColumn('created_at', big, required)
    .execute();
  await schema
    .createTable('chunk')
    .addColumn('hash', bytes, (column) => column.primaryKey().notNull())
    .addColumn('pack_id', big, (column) => column.notNull().references('pack.id'))
    .addColumn('frame_offset', big, required)
    .addColumn('frame_length', 'integer', required)
    .addColumn('frame_crc', big, required)
    .addColumn('raw_length', 'integer', required)
    .addColumn('damaged_at', big)
    .execute();
  await schema.createIndex('chunk_by_pack').on('chunk').column('pack_id').execute();
}

async function createContents(schema: SchemaModule, { id, bytes, big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('content')
    .addColumn('id', id)
    .addColumn('hash', bytes, (column) => column.notNull().unique())
    .addColumn('size', big, required)
    .addColumn('recipe', bytes, required)
    .addColumn('flat_hash', bytes)
    .addColumn('created_at', big, required)
    .addColumn('damaged_at', big)
    .execute();
}

async function createUploads(schema: SchemaModule, { bytes, big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('nar_upload')
    .addColumn('cache_id', big, (column) => column.notNull().references('cache.id').onDelete('cascade'))
    .addColumn('file_name', 'text', required)
    .addColumn('writer', 'text', required)
    .addColumn('content_id', big, (column) => column.notNull().references('content.id').onDelete('cascade'))
    .addColumn('file_hash', bytes, required)
    .addColumn('file_size', big, required)
    .addColumn('created_at', big, required)
    .addColumn('expires_at', big)
    .addPrimaryKeyConstraint('nar_upload_key', ['cache_id', 'file_name', 'writer'])
    .execute();
  await schema.createIndex('nar_upload_by_content').on('nar_upload').column('content_id').execute();
  await schema.createIndex('nar_upload_by_expiry').on('nar_upload').column('expires_at').execute();
}

async function createPaths(schema: SchemaModule, { big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('store_path')
    .addColumn('cache_id', big, (column) => column.notNull().references('cache.id').onDelete('cascade'))
    .addColumn('hash', 'text', required)
    .addColumn('store_path', 'text', required)
    .addColumn('content_id', big, (column) => column.notNull().references('content.id'))
    .addColumn('path_references', 'text', required)
    .addColumn('deriver', 'text')
    .addColumn('ca', 'text')
    .addColumn('narinfo', 'text', required)
    .addColumn('writer', 'text', required)
    .addColumn('created_at', big, required)
    .addColumn('last_access_at', big, required)
    .addPrimaryKeyConstraint('store_path_key', ['cache_id', 'hash'])
    .execute();
  await schema
    .createIndex('store_path_by_content')
    .on('store_path')
    .columns(['content_id', 'cache_id'])
    .execute();
}

async function createConflicts(schema: SchemaModule, { id, big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('path_conflict')
    .addColumn('id', id)
    .addColumn('cache_id', big, (column) => column.notNull().references('cache.id').onDelete('cascade'))
    .addColumn('hash', 'text', required)
    .addColumn('store_path', 'text', required)
    .addColumn('held_nar_hash', 'text', required)
    .addColumn('offered_nar_hash', 'text', required)
    .addColumn('writer', 'text', required)
    .addColumn('created_at', big, required)
    .addUniqueConstraint('path_conflict_once', ['cache_id', 'hash', 'offered_nar_hash', 'writer'])
    .execute();
}

async function createSideFiles(schema: SchemaModule, { big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('side_file')
    .addColumn('cache_id', big, (column) => column.notNull().references('cache.id').onDelete('cascade'))
    .addColumn('name', 'text', required)
    .addColumn('content_id', big, (column) => column.notNull().references('content.id'))
    .addColumn('content_encoding', 'text')
    .addColumn('writer', 'text', required)
    .addColumn('updated_at', big, required)
    .addPrimaryKeyConstraint('side_file_key', ['cache_id', 'name'])
    .execute();
  await schema.createIndex('side_file_by_content').on('side_file').column('content_id').execute();
}
