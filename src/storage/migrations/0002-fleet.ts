// Migration 2: runs, their events, hosts and webhook deliveries. Never edited once released.
import type { Kysely, SchemaModule } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes, required, type ColumnTypes, type SqlEngine } from './column-types.ts';

export function fleetMigration(engine: SqlEngine): Migration {
  return { up: async (db: Kysely<unknown>) => await up(db.schema, columnTypes(engine)) };
}

async function up(schema: SchemaModule, types: ColumnTypes): Promise<void> {
  await createRuns(schema, types);
  await createEvents(schema, types);
  await createHosts(schema, types);
  await createDeliveries(schema, types);
}

async function createRuns(schema: SchemaModule, { id, big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('fleet_run')
    .addColumn('id', id)
    .addColumn('repository', 'text', required)
    .addColumn('branch', 'text', required)
    .addColumn('commit_id', 'text', required)
    .addColumn('trigger_kind', 'text', required)
    .addColumn('reason', 'text', required)
    .addColumn('state', 'text', required)
    .addColumn('stage', 'text')
    .addColumn('note', 'text', required)
    .addColumn('problem', 'text')
    .addColumn('release_commit', 'text')
    .addColumn('serial', 'integer')
    .addColumn('interrupted', 'integer', required)
    .addColumn('created_at', big, required)
    .addColumn('started_at', big)
    .addColumn('ended_at', big)
    .execute();
  await schema.createIndex('fleet_run_by_state').on('fleet_run').columns(['repository', 'state']).execute();
  await schema
    .createIndex('fleet_run_by_commit')
    .on('fleet_run')
    .columns(['repository', 'commit_id'])
    .execute();
}

async function createEvents(schema: SchemaModule, { id, big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('run_event')
    .addColumn('id', id)
    .addColumn('run_id', big, (column) => column.notNull().references('fleet_run.id').onDelete('cascade'))
    .addColumn('seq', 'integer', required)
    .addColumn('data', 'text', required)
    .addUniqueConstraint('run_event_once', ['run_id', 'seq'])
    .execute();
}

async function createHosts(schema: SchemaModule, { big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('host_status')
    .addColumn('name', 'text', (column) => column.primaryKey().notNull())
    .addColumn('data', 'text', required)
    .addColumn('updated_at', big, required)
    .execute();
}

async function createDeliveries(schema: SchemaModule, { big }: ColumnTypes): Promise<void> {
  await schema
    .createTable('webhook_delivery')
    .addColumn('repository', 'text', required)
    .addColumn('delivery', 'text', required)
    .addColumn('received_at', big, required)
    .addPrimaryKeyConstraint('webhook_delivery_key', ['repository', 'delivery'])
    .execute();
  await schema.createIndex('webhook_delivery_by_age').on('webhook_delivery').column('received_at').execute();
}
