// Migration 6: what uploads in chunks need to know: whose chunks are held, so that nobody learns of chunks that he may not
// read, and which ones wait for the rest of their NAR. Never edited once released.
import { sql, type CreateTableBuilder, type Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes, required, type SqlEngine } from './column-types.ts';

export function uploadsMigration(engine: SqlEngine): Migration {
  return { up: async (db: Kysely<unknown>) => await up(db, engine) };
}

async function up({ schema }: Kysely<unknown>, engine: SqlEngine): Promise<void> {
  const { bytes, big } = columnTypes(engine);
  const cacheChunk = schema
    .createTable('cache_chunk')
    .addColumn('hash', bytes, (column) => column.notNull().references('chunk.hash').onDelete('cascade'))
    .addColumn('cache_id', big, (column) => column.notNull().references('cache.id').onDelete('cascade'))
    .addPrimaryKeyConstraint('cache_chunk_key', ['hash', 'cache_id']);
  await compact(cacheChunk, engine).execute();
  const stagedChunk = schema
    .createTable('staged_chunk')
    .addColumn('hash', bytes, (column) => column.notNull().references('chunk.hash').onDelete('cascade'))
    .addColumn('cache_id', big, (column) => column.notNull().references('cache.id').onDelete('cascade'))
    .addColumn('writer', 'text', required)
    .addColumn('expires_at', big, required)
    .addPrimaryKeyConstraint('staged_chunk_key', ['hash', 'cache_id', 'writer']);
  await compact(stagedChunk, engine).execute();
  await schema.createIndex('staged_chunk_by_expiry').on('staged_chunk').column('expires_at').execute();
}

/** In SQLite, rows that are all key lie in the key's own tree. */
function compact<T extends string>(table: CreateTableBuilder<T, string>, engine: SqlEngine) {
  return engine === 'sqlite' ? table.modifyEnd(sql`without rowid`) : table;
}
