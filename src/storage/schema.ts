// The whole database as one type. A part that needs tables adds a file `<part>-tables.ts` here, extends Schema,
// and adds a numbered migration to migrations.ts. Times are milliseconds since 1970, flags are 0 or 1.
import type { CacheTables } from './cache-tables.ts';
import type { FleetTables } from './fleet-tables.ts';
import type { GarbageTables } from './garbage-tables.ts';
import type { JournalTables } from './journal-tables.ts';
import type { TokenTables } from './token-tables.ts';

export interface Schema extends CacheTables, FleetTables, GarbageTables, JournalTables, TokenTables {}
