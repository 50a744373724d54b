// Which rows the journal holds, and how they are turned into records and back. The triggers of migration 5 note the changes.
import { setImmediate as pause } from 'node:timers/promises';
import { sql, type Kysely, type RawBuilder, type Transaction } from 'kysely';
import type { Schema } from '../../storage/schema.ts';
import type { JournalRecord, JournalValue } from './journal-format.ts';

const ROWS_AN_INSERT = 1000;
/** SQLite answers at once, so that a row after the other would hold up requests until the last: 1 ms at a time. */
const ROWS_A_TURN = 20;

type Row = Record<string, unknown>;

interface JournalTable {
  readonly table: string;
  /** Columns that name a row. */
  readonly key: readonly string[];
  /** Columns that hold ids of other rows. */
  readonly references: Readonly<Record<string, 'cache' | 'content'>>;
  /** Rows that are not worth keeping: they count as gone. */
  readonly keeps?: (row: Row) => boolean;
}

/** Caches first: the others refer to them. */
const TABLES: readonly JournalTable[] = [
  { table: 'cache', key: ['name'], references: { base_id: 'cache' } },
  {
    table: 'store_path',
    key: ['cache_id', 'hash'],
    references: { cache_id: 'cache', content_id: 'content' },
  },
  { table: 'side_file', key: ['cache_id', 'name'], references: { cache_id: 'cache', content_id: 'content' } },
  {
    table: 'nar_upload',
    key: ['cache_id', 'file_name', 'writer'],
    references: { cache_id: 'cache', content_id: 'content' },
    keeps: (row) => row['expires_at'] === null, // others wait for a narinfo for a day
  },
  {
    table: 'path_origin',
    key: ['cache_id', 'hash', 'writer', 'nar_hash', 'way'],
    references: { cache_id: 'cache' },
  },
  { table: 'pin', key: ['name', 'hash'], references: {} },
];

/** Only meant for this database. */
const LOCAL_COLUMNS = new Set(['id', 'tombstoned_at', 'epoch']);

export interface NotedChange {
  readonly table_name: string;
  /** JSON array, as the trigger wrote it. */
  readonly row_key: string;
}

/** Records of the changes as the rows are now: what is gone first, then caches, then the rest. */
export async function readRecords(
  db: Kysely<Schema>,
  changes: readonly NotedChange[],
): Promise<JournalRecord[]> {
  const unique = [
    ...new Map(changes.map((change) => [`${change.table_name} ${change.row_key}`, change])).values(),
  ];
  const names = new NameLookup(db);
  const gone: JournalRecord[] = [];
  const rows: JournalRecord[] = [];
  let read = 0;
  for (const description of TABLES)
    for (const change of unique.filter(({ table_name }) => table_name === description.table)) {
      if (++read % ROWS_A_TURN === 0) await pause();
      const record = await readRecord(db, names, { description, change });
      if (record?.gone !== undefined) gone.push(record);
      else if (record !== undefined) rows.push(record);
    }
  return [...gone, ...rows];
}

/** As if every row had changed. */
export async function noteEverything(transaction: Transaction<Schema>): Promise<void> {
  for (const description of TABLES)
    for (let from = 0; ; from += ROWS_AN_INSERT) {
      const changes = await readKeys(transaction, description, from);
      if (changes.length > 0) await transaction.insertInto('journal_change').values(changes).execute();
      if (changes.length < ROWS_AN_INSERT) break;
    }
}

async function readKeys(
  transaction: Transaction<Schema>,
  { table, key }: JournalTable,
  from: number,
): Promise<NotedChange[]> {
  const columns = table === 'cache' ? ['id', ...key] : key;
  const list = sql.join(columns.map((column) => sql.ref(column)));
  const page = sql<Row>`select ${list} from ${sql.table(table)} order by ${list} limit ${ROWS_AN_INSERT} offset ${from}`;
  const { rows } = await page.execute(transaction);
  return rows.map((row) => ({
    table_name: table,
    row_key: JSON.stringify(columns.map((column) => row[column])),
  }));
}

async function readRecord(
  db: Kysely<Schema>,
  names: NameLookup,
  { description, change }: { readonly description: JournalTable; readonly change: NotedChange },
): Promise<JournalRecord | undefined> {
  const { table, key, references } = description;
  const noted = JSON.parse(change.row_key) as (string | number)[];
  // A cache is noted by id and name: once it is gone, nothing else tells its name.
  const values = table === 'cache' ? noted.slice(1) : noted;
  const where = sql.join(
    key.map((column, index) => sql`${sql.ref(column)} = ${values[index]}`),
    sql` and `,
  );
  const { rows } = await sql<Row>`select * from ${sql.table(table)} where ${where}`.execute(db);
  const [row] = rows;
  if (row !== undefined && description.keeps?.(row) !== false)
    return { table, row: await names.outlive(row, references) };
  const named = Object.fromEntries(key.map((column, index) => [column, values[index]]));
  // Without its cache it is gone with its cache.
  if (references['cache_id'] && !(await names.has('cache', Number(named['cache_id'])))) return undefined;
  return { table, gone: await names.outlive(named, references) };
}

/** Writes a record into a database that was empty; `lost` when what it refers to is not there. */
export async function applyRecord(db: Kysely<Schema>, record: JournalRecord): Promise<'applied' | 'lost'> {
  const description = TABLES.find(({ table }) => table === record.table);
  if (description === undefined) return 'applied'; // of a newer version, for a part that is not here
  const names = new NameLookup(db);
  const values = await names.localise(record.row ?? record.gone ?? {}, description.references);
  if (values === undefined) return record.gone === undefined ? 'lost' : 'applied';
  const match = sql.join(
    description.key.map((column) => sql`${sql.ref(column)} = ${values[column]}`),
    sql` and `,
  );
  const table = sql.table(record.table);
  if (record.gone !== undefined) await sql`delete from ${table} where ${match}`.execute(db);
  else await upsert(db, description, values);
  return 'applied';
}

async function upsert(db: Kysely<Schema>, { table, key }: JournalTable, values: Row): Promise<void> {
  const columns = Object.keys(values);
  const others = columns.filter((column) => !key.includes(column));
  const updates = others.map((column) => sql`${sql.ref(column)} = excluded.${sql.ref(column)}`);
  const action = others.length === 0 ? sql`nothing` : sql`update set ${list(updates)}`;
  await sql`insert into ${sql.table(table)} (${list(columns.map((column) => sql.ref(column)))})
    values (${list(columns.map((column) => sql`${values[column]}`))})
    on conflict (${list(key.map((column) => sql.ref(column)))}) do ${action}`.execute(db);
}

function list(parts: readonly RawBuilder<unknown>[]): RawBuilder<unknown> {
  return sql.join(parts, sql`, `);
}

/** Ids to names and hashes, and back. */
class NameLookup {
  readonly #db: Kysely<Schema>;
  readonly #caches = new Map<number, string | undefined>();

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  async has(kind: 'cache' | 'content', id: number): Promise<boolean> {
    return (await this.#nameOf(kind, id)) !== undefined;
  }

  async outlive(row: Row, references: JournalTable['references']): Promise<Record<string, JournalValue>> {
    const result: Record<string, JournalValue> = {};
    for (const [column, value] of Object.entries(row)) {
      const kind = references[column];
      if (LOCAL_COLUMNS.has(column)) continue;
      if (kind !== undefined && value !== null)
        result[column] = (await this.#nameOf(kind, Number(value))) ?? null;
      else
        result[column] =
          value instanceof Uint8Array ? { hex: Buffer.from(value).toString('hex') } : (value as JournalValue);
    }
    return result;
  }

  /** `undefined` when something that it refers to is not there. */
  async localise(
    row: Readonly<Record<string, JournalValue>>,
    references: JournalTable['references'],
  ): Promise<Row | undefined> {
    const result: Row = {};
    for (const [column, value] of Object.entries(row)) {
      const kind = references[column];
      if (kind !== undefined && value !== null) result[column] = await this.#idOf(kind, value);
      else result[column] = isBytes(value) ? Buffer.from(value.hex, 'hex') : value;
      if (result[column] === undefined) return undefined;
    }
    return result;
  }

  async #nameOf(kind: 'cache' | 'content', id: number): Promise<JournalValue | undefined> {
    if (kind === 'cache') return await this.#cacheName(id);
    const row = await this.#db.selectFrom('content').select('hash').where('id', '=', id).executeTakeFirst();
    return row && { hex: Buffer.from(row.hash).toString('hex') };
  }

  async #cacheName(id: number): Promise<string | undefined> {
    if (this.#caches.has(id)) return this.#caches.get(id);
    const row = await this.#db.selectFrom('cache').select('name').where('id', '=', id).executeTakeFirst();
    this.#caches.set(id, row?.name);
    return row?.name;
  }

  async #idOf(kind: 'cache' | 'content', value: JournalValue): Promise<number | undefined> {
    if (kind === 'cache' && typeof value === 'string') {
      const found = this.#db.selectFrom('cache').select('id').where('name', '=', value);
      return (await found.executeTakeFirst())?.id;
    }
    if (!isBytes(value)) return undefined;
    const found = this.#db
      .selectFrom('content')
      .select('id')
      .where('hash', '=', Buffer.from(value.hex, 'hex'));
    return (await found.executeTakeFirst())?.id;
  }
}

function isBytes(value: JournalValue | undefined): value is { readonly hex: string } {
  return typeof value === 'object' && value !== null;
}
