// Rows of hosts: one JSON document a host, read and written as a whole.
import type { Kysely, Transaction } from 'kysely';
import type { HostStatus } from '../api/fleet-status.ts';
import type { Schema } from '../storage/schema.ts';
import { newHostStatus } from './host-status.ts';

/** Sorted by name. */
export async function listHosts(db: Kysely<Schema>): Promise<HostStatus[]> {
  const rows = await db.selectFrom('host_status').select('data').orderBy('name').execute();
  return rows.map((row) => JSON.parse(row.data) as HostStatus);
}

/** Replaces the host's row by what `change` makes of it; a host not heard of before begins empty. */
export async function updateHost(
  tx: Transaction<Schema>,
  name: string,
  at: string,
  change: (before: HostStatus) => HostStatus,
): Promise<HostStatus> {
  const row = await tx.selectFrom('host_status').select('data').where('name', '=', name).executeTakeFirst();
  const before = row === undefined ? newHostStatus(name, at) : (JSON.parse(row.data) as HostStatus);
  const after = change(before);
  const values = { name, data: JSON.stringify(after), updated_at: Date.parse(after.updatedAt) };
  await tx
    .insertInto('host_status')
    .values(values)
    .onConflict((conflict) =>
      conflict.column('name').doUpdateSet({ data: values.data, updated_at: values.updated_at }),
    )
    .execute();
  return after;
}
