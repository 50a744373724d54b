// What SQLite and PostgreSQL spell differently in a table definition.
import { sql, type ColumnDefinitionBuilder, type RawBuilder } from 'kysely';

export type SqlEngine = 'sqlite' | 'postgres';

export interface ColumnTypes {
  readonly id: RawBuilder<unknown>;
  readonly bytes: RawBuilder<unknown>;
  /** 64 bits: sizes, and times in milliseconds. */
  readonly big: RawBuilder<unknown>;
}

const TYPES: Readonly<Record<SqlEngine, ColumnTypes>> = {
  sqlite: { id: sql`integer primary key autoincrement`, bytes: sql`blob`, big: sql`integer` },
  postgres: {
    id: sql`bigint generated always as identity primary key`,
    bytes: sql`bytea`,
    big: sql`bigint`,
  },
};

export function columnTypes(engine: SqlEngine): ColumnTypes {
  return TYPES[engine];
}

export function required(column: ColumnDefinitionBuilder): ColumnDefinitionBuilder {
  return column.notNull();
}
