// The numbered steps of the schema. Append only: a released step never changes, the next one has the next number.
import type { Kysely } from 'kysely';
import { Migrator, type Migration } from 'kysely/migration';
import { SlipwayError, messageOf } from '../util/errors.ts';
import { cacheMigration } from './migrations/0001-cache.ts';
import { fleetMigration } from './migrations/0002-fleet.ts';
import { trustMigration } from './migrations/0003-trust.ts';
import { garbageMigration } from './migrations/0004-garbage.ts';
import { journalMigration } from './migrations/0005-journal.ts';
import { uploadsMigration } from './migrations/0006-uploads.ts';
import { sourcesMigration } from './migrations/0007-sources.ts';
import { damagedContentsMigration } from './migrations/0008-damaged-contents.ts';
import { lookupsMigration } from './migrations/0010-lookups.ts';
import { framesMigration } from './migrations/0011-frames.ts';
import { settledMigration } from './migrations/0012-settled.ts';
import type { SqlEngine } from './migrations/column-types.ts';

const STEPS: Readonly<Record<string, (engine: SqlEngine) => Migration>> = {
  '0001-cache': cacheMigration,
  '0002-fleet': fleetMigration,
  '0003-trust': trustMigration,
  '0004-garbage': garbageMigration,
  '0005-journal': journalMigration,
  '0006-uploads': uploadsMigration,
  '0007-sources': sourcesMigration,
  '0008-damaged-contents': damagedContentsMigration,
  '0010-lookups': lookupsMigration,
  '0011-frames': framesMigration,
  '0012-settled': settledMigration,
};

/** Brings the schema to the newest step. A database from a newer Slipway is `invalid` and stays untouched. */
export async function migrate<DB>(db: Kysely<DB>, engine: SqlEngine): Promise<void> {
  const migrations = Object.fromEntries(Object.entries(STEPS).map(([name, step]) => [name, step(engine)]));
  const migrator = new Migrator({ db, provider: { getMigrations: () => Promise.resolve(migrations) } });
  const { error } = await migrator.migrateToLatest();
  if (error === undefined) return;
  throw new SlipwayError('invalid', `The database could not be brought up to date: ${messageOf(error)}`, {
    next: 'Run the Slipway version that last used this data directory, or restore a backup.',
    cause: error,
  });
}
