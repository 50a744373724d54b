// Migration 5: which rows must be written to the journal beside the packs, so that storage alone can restore them. Triggers
// note each change: no part of the cache can forget to. Never edited once released.
import { sql, type Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes, required, type SqlEngine } from './column-types.ts';

interface Noted {
  readonly table: string;
  /** What names the row: by the ids of this database. */
  readonly key: readonly string[];
  /** Changes of other columns are not worth a note. */
  readonly columns: readonly string[];
}

const NOTED: readonly Noted[] = [
  {
    table: 'cache',
    key: ['id', 'name'],
    columns: [
      'name',
      'is_public',
      'priority',
      'store_dir',
      'closed',
      'base_id',
      'upstream_keys',
      'accepted_keys',
      'agreement',
      'retention_ms',
      'retention_by',
      'borrowed_bytes',
      'quota_bytes',
    ],
  },
  {
    table: 'store_path',
    key: ['cache_id', 'hash'],
    columns: ['content_id', 'narinfo', 'writer', 'quarantined_at'],
  },
  { table: 'side_file', key: ['cache_id', 'name'], columns: ['content_id', 'content_encoding', 'writer'] },
  { table: 'nar_upload', key: ['cache_id', 'file_name', 'writer'], columns: ['content_id', 'expires_at'] },
  {
    table: 'path_origin',
    key: ['cache_id', 'hash', 'writer', 'nar_hash', 'way'],
    columns: ['way', 'signatures'],
  },
  { table: 'pin', key: ['name', 'hash'], columns: ['store_path'] },
];

export function journalMigration(engine: SqlEngine): Migration {
  return { up: async (db: Kysely<unknown>) => await up(db, engine) };
}

async function up(db: Kysely<unknown>, engine: SqlEngine): Promise<void> {
  const { id, big } = columnTypes(engine);
  await db.schema
    .createTable('journal_change')
    .addColumn('id', id)
    .addColumn('table_name', 'text', required)
    .addColumn('row_key', 'text', required)
    .execute();
  await db.schema
    .createTable('journal_state')
    .addColumn('name', 'text', (column) => column.primaryKey().notNull())
    .addColumn('value', big, required)
    .execute();
  for (const noted of NOTED) {
    for (const statement of engine === 'sqlite' ? sqliteTriggers(noted) : postgresTriggers(noted))
      await sql.raw(statement).execute(db);
    await sql.raw(noteAll(noted, engine)).execute(db);
  }
}

function sqliteTriggers(noted: Noted): string[] {
  const { table, columns } = noted;
  return [
    [`insert`, 'new'],
    [`update of ${columns.join(', ')}`, 'new'],
    ['delete', 'old'],
  ].map(
    ([event = '', row = '']) =>
      `create trigger note_${table}_${event.slice(0, 6)} after ${event} on ${table} begin ${note(noted, 'sqlite', `${row}.`)}; end`,
  );
}

function postgresTriggers(noted: Noted): string[] {
  const { table, columns } = noted;
  return [
    `create function note_${table}() returns trigger language plpgsql as $$ begin
       if tg_op = 'DELETE' then ${note(noted, 'postgres', 'old.')}; else ${note(noted, 'postgres', 'new.')}; end if;
       return null;
     end $$`,
    `create trigger note_${table} after insert or delete or update of ${columns.join(', ')} on ${table}
       for each row execute function note_${table}()`,
  ];
}

function note({ table, key }: Noted, engine: SqlEngine, row: string): string {
  return `insert into journal_change (table_name, row_key) values ('${table}', ${keyOf(key, engine, row)})`;
}

/** What was there before this migration. */
function noteAll({ table, key }: Noted, engine: SqlEngine): string {
  return `insert into journal_change (table_name, row_key) select '${table}', ${keyOf(key, engine, '')} from ${table}`;
}

function keyOf(key: readonly string[], engine: SqlEngine, row: string): string {
  const columns = key.map((column) => row + column).join(', ');
  return engine === 'sqlite' ? `json_array(${columns})` : `json_build_array(${columns})::text`;
}
