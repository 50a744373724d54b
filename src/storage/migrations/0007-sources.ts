// Migration 7: where a cache finds paths beside what it holds. The journal notes changes of that too.
// Never edited once released.
import { sql, type Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import type { SqlEngine } from './column-types.ts';

const ADDED = ['upstreams', 'local_store'];

export function sourcesMigration(engine: SqlEngine): Migration {
  return { up: async (db: Kysely<unknown>) => await up(db, engine) };
}

async function up(db: Kysely<unknown>, engine: SqlEngine): Promise<void> {
  await db.schema
    .alterTable('cache')
    .addColumn('upstreams', 'text', (column) => column.notNull().defaultTo('[]'))
    .execute();
  await db.schema.alterTable('cache').addColumn('local_store', 'text').execute();
  for (const statement of engine === 'sqlite' ? sqliteTrigger() : postgresTrigger())
    await sql.raw(statement).execute(db);
}

/** Beside the trigger of migration 5, which watches the other columns. */
function sqliteTrigger(): string[] {
  return [
    `create trigger note_cache_sources after update of ${ADDED.join(', ')} on cache begin
       insert into journal_change (table_name, row_key) values ('cache', json_array(new.id, new.name)); end`,
  ];
}

function postgresTrigger(): string[] {
  return [
    `create trigger note_cache_sources after update of ${ADDED.join(', ')} on cache
       for each row execute function note_cache()`,
  ];
}
