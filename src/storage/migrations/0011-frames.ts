// Migration 11: a frame holds several chunks. Where in it a chunk lies, and how much it decodes to; until now each frame was
// one chunk. Never edited once released.
import { sql, type Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';

export function framesMigration(): Migration {
  return { up };
}

async function up(db: Kysely<unknown>): Promise<void> {
  for (const column of ['frame_raw_length', 'chunk_offset'])
    await db.schema
      .alterTable('chunk')
      .addColumn(column, 'integer', (added) => added.notNull().defaultTo(0))
      .execute();
  await sql`update chunk set frame_raw_length = raw_length`.execute(db);
}
