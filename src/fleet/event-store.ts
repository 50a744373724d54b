// Rows of run events: append-only, numbered within their run and over all runs, with a bound for each run.
import type { Kysely, Transaction } from 'kysely';
import type { EventPage, StoredEvent } from '../api/fleet-status.ts';
import type { RunEvent } from '../api/run-events.ts';
import type { Schema } from '../storage/schema.ts';

/** Log lines beyond this are not stored: a build that prints without end cannot fill the disk. */
export const MAX_EVENTS_OF_RUN = 20_000;
const MAX_LINE = 4_096;

/** Appends in order; `stored` of them got a place, the others were log lines over the bound. */
export async function appendEvents(
  tx: Transaction<Schema>,
  run: number,
  events: readonly RunEvent[],
): Promise<StoredEvent[]> {
  const before = await countEvents(tx, run);
  const kept = withinBound(events, before);
  if (kept.length === 0) return [];
  const rows = kept.map((event, index) => ({
    run_id: run,
    seq: before + index + 1,
    data: JSON.stringify(event),
  }));
  const inserted = await tx.insertInto('run_event').values(rows).returning(['id', 'seq']).execute();
  const idOf = new Map(inserted.map((row) => [row.seq, row.id]));
  return kept.map((event, index) => {
    const seq = before + index + 1;
    return { id: idOf.get(seq) ?? 0, run: String(run), seq, event };
  });
}

/** Events of one run after `seq`, oldest first. */
export async function listRunEvents(
  db: Kysely<Schema>,
  run: number,
  after: number,
  limit: number,
): Promise<EventPage> {
  const rows = await db
    .selectFrom('run_event')
    .selectAll()
    .where('run_id', '=', run)
    .where('seq', '>', after)
    .orderBy('seq')
    .limit(limit + 1)
    .execute();
  return { events: rows.slice(0, limit).map(storedEventOf), more: rows.length > limit };
}

/** Events of all runs after event `id`, oldest first. */
export async function listEventsAfter(db: Kysely<Schema>, id: number, limit: number): Promise<StoredEvent[]> {
  const rows = await db
    .selectFrom('run_event')
    .selectAll()
    .where('id', '>', id)
    .orderBy('id')
    .limit(limit)
    .execute();
  return rows.map(storedEventOf);
}

export async function lastEventId(db: Kysely<Schema>): Promise<number> {
  const row = await db
    .selectFrom('run_event')
    .select((field) => field.fn.max('id').as('id'))
    .executeTakeFirst();
  return row?.id ?? 0;
}

async function countEvents(tx: Transaction<Schema>, run: number): Promise<number> {
  const row = await tx
    .selectFrom('run_event')
    .select((field) => field.fn.max('seq').as('seq'))
    .where('run_id', '=', run)
    .executeTakeFirst();
  return row?.seq ?? 0;
}

/** Everything but log lines is always kept; the first log line over the bound says that the rest is missing. */
function withinBound(events: readonly RunEvent[], before: number): RunEvent[] {
  const kept: RunEvent[] = [];
  for (const event of events) {
    const place = before + kept.length;
    if (event.kind !== 'log') kept.push(event);
    else if (place < MAX_EVENTS_OF_RUN) kept.push(cutLine(event));
    else if (place === MAX_EVENTS_OF_RUN)
      kept.push({ ...event, line: '… the log goes on, but no more of it is kept.' });
  }
  return kept;
}

function cutLine(event: Extract<RunEvent, { kind: 'log' }>): RunEvent {
  return event.line.length <= MAX_LINE ? event : { ...event, line: `${event.line.slice(0, MAX_LINE)} …` };
}

function storedEventOf(row: { id: number; run_id: number; seq: number; data: string }): StoredEvent {
  return { id: row.id, run: String(row.run_id), seq: row.seq, event: JSON.parse(row.data) as RunEvent };
}
