// Rows of runs: the queue is the table itself, so that it outlives the server.
import type { Kysely, Selectable, Transaction } from 'kysely';
import type { RunState, RunStatus } from '../api/fleet-status.ts';
import type { RunEvent, Stage } from '../api/run-events.ts';
import type { FleetRunTable } from '../storage/fleet-tables.ts';
import type { Schema } from '../storage/schema.ts';
import type { RunFacts, RunTrigger } from './run-decision.ts';

export type RunRow = Selectable<FleetRunTable>;

export interface NewRun {
  readonly repository: string;
  readonly branch: string;
  readonly commit: string;
  readonly trigger: RunTrigger;
  readonly reason: string;
  readonly at: number;
}

/** How a run ended. */
export interface RunOutcome {
  readonly state: Exclude<RunState, 'queued' | 'running'>;
  readonly note: string;
  readonly problem?: NonNullable<RunStatus['problem']>;
  readonly release?: string;
  readonly serial?: number;
  readonly interrupted?: boolean;
}

export async function insertRun(tx: Transaction<Schema>, run: NewRun): Promise<RunRow> {
  return await tx
    .insertInto('fleet_run')
    .values({
      repository: run.repository,
      branch: run.branch,
      commit_id: run.commit,
      trigger_kind: run.trigger,
      reason: run.reason,
      state: 'queued',
      note: '',
      interrupted: 0,
      created_at: run.at,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Gives a waiting run another commit; undefined when it is too late. */
export async function retargetRun(
  tx: Transaction<Schema>,
  id: number,
  change: { readonly commit: string; readonly reason: string },
): Promise<RunRow | undefined> {
  return await tx
    .updateTable('fleet_run')
    .set({ commit_id: change.commit, reason: change.reason })
    .where('id', '=', id)
    .where('state', '=', 'queued')
    .returningAll()
    .executeTakeFirst();
}

/** Takes the oldest waiting run of the repository, unless one is under way. */
export async function claimRun(
  tx: Transaction<Schema>,
  repository: string,
  at: number,
): Promise<RunRow | undefined> {
  const under = await newestIn(tx, repository, 'running');
  if (under) return undefined;
  const next = await tx
    .selectFrom('fleet_run')
    .select('id')
    .where('repository', '=', repository)
    .where('state', '=', 'queued')
    .orderBy('id')
    .executeTakeFirst();
  if (!next) return undefined;
  return await tx
    .updateTable('fleet_run')
    .set({ state: 'running', started_at: at })
    .where('id', '=', next.id)
    .returningAll()
    .executeTakeFirst();
}

/** What an event changes in its run's row; whether it changed anything. */
export async function followEvent(tx: Transaction<Schema>, id: number, event: RunEvent): Promise<boolean> {
  const change = changeBy(event);
  if (change === undefined) return false;
  await tx.updateTable('fleet_run').set(change).where('id', '=', id).execute();
  return true;
}

/** The run takes the branch's tip at its start: by then it may have moved on from what was queued. */
function changeBy(event: RunEvent): { stage: Stage } | { commit_id: string } | undefined {
  if (event.kind === 'stage-started') return { stage: event.stage };
  return event.kind === 'run-started' ? { commit_id: event.source } : undefined;
}

/** Ends a run; a run that has ended already stays as it is (undefined). */
export async function endRun(
  tx: Transaction<Schema>,
  id: number,
  outcome: RunOutcome,
  at: number,
): Promise<RunRow | undefined> {
  return await tx
    .updateTable('fleet_run')
    .set({
      state: outcome.state,
      note: outcome.note,
      problem: outcome.problem === undefined ? null : JSON.stringify(outcome.problem),
      release_commit: outcome.release ?? null,
      serial: outcome.serial ?? null,
      interrupted: outcome.interrupted === true ? 1 : 0,
      ended_at: at,
    })
    .where('id', '=', id)
    .where('state', 'in', ['queued', 'running'])
    .returningAll()
    .executeTakeFirst();
}

/** What decideRun() must know of the repository's runs. */
export async function readRunFacts(
  db: Kysely<Schema>,
  repository: string,
  commit: string,
): Promise<Pick<RunFacts, 'queued' | 'running' | 'last' | 'runsOfCommit' | 'interruptedOfCommit'>> {
  const [queued, running, last, counts] = [
    await newestIn(db, repository, 'queued'),
    await newestIn(db, repository, 'running'),
    await newestIn(db, repository, 'done', 'nothing-to-do', 'failed'),
    await db
      .selectFrom('fleet_run')
      .select((field) => [
        field.fn.countAll<number>().as('all'),
        field.fn.sum<number>('interrupted').as('cut'),
      ])
      .where('repository', '=', repository)
      .where('commit_id', '=', commit)
      .executeTakeFirst(),
  ];
  return {
    queued: known(queued),
    running: known(running),
    last: last && { id: String(last.id), commit: last.commit_id, interrupted: last.interrupted === 1 },
    runsOfCommit: counts?.all ?? 0,
    interruptedOfCommit: counts?.cut ?? 0,
  };
}

export async function findRun(db: Kysely<Schema>, id: number): Promise<RunRow | undefined> {
  return await db.selectFrom('fleet_run').selectAll().where('id', '=', id).executeTakeFirst();
}

/** Newest first; every run that has not ended is among them. */
export async function listRuns(db: Kysely<Schema>, limit: number): Promise<RunRow[]> {
  const newest = await db.selectFrom('fleet_run').selectAll().orderBy('id', 'desc').limit(limit).execute();
  const open = await listOpenRuns(db);
  const shown = new Set(newest.map((run) => run.id));
  return [...newest, ...open.filter((run) => !shown.has(run.id))];
}

/** Runs that wait or are under way, newest first: one or two a repository. */
export async function listOpenRuns(db: Kysely<Schema>): Promise<RunRow[]> {
  return await db
    .selectFrom('fleet_run')
    .selectAll()
    .where('state', 'in', ['queued', 'running'])
    .orderBy('id', 'desc')
    .execute();
}

/** Deletes ended runs of the repository beyond the newest `keep`, with their events. */
export async function deleteOldRuns(
  tx: Transaction<Schema>,
  repository: string,
  keep: number,
): Promise<void> {
  const oldestKept = await tx
    .selectFrom('fleet_run')
    .select('id')
    .where('repository', '=', repository)
    .orderBy('id', 'desc')
    .offset(keep - 1)
    .limit(1)
    .executeTakeFirst();
  if (!oldestKept) return;
  await tx
    .deleteFrom('fleet_run')
    .where('repository', '=', repository)
    .where('id', '<', oldestKept.id)
    .where('ended_at', 'is not', null)
    .execute();
}

/** The row as the API shows it; `waiting` is the reason of a run that has not begun. */
export function runStatusOf(row: RunRow, waiting?: string): RunStatus {
  return {
    id: String(row.id),
    repository: row.repository,
    branch: row.branch,
    commit: row.commit_id,
    trigger: row.trigger_kind as RunTrigger,
    reason: row.reason,
    ...(row.state === 'queued' && waiting !== undefined && { waiting }),
    state: row.state as RunState,
    note: row.note,
    createdAt: new Date(row.created_at).toISOString(),
    ...time('startedAt', row.started_at),
    ...time('endedAt', row.ended_at),
    ...given('stage', row.stage),
    ...given('problem', row.problem === null ? null : JSON.parse(row.problem)),
    ...given('release', row.release_commit),
    ...given('serial', row.serial),
  };
}

async function newestIn(
  db: Kysely<Schema>,
  repository: string,
  ...states: readonly RunState[]
): Promise<RunRow | undefined> {
  return await db
    .selectFrom('fleet_run')
    .selectAll()
    .where('repository', '=', repository)
    .where('state', 'in', states)
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst();
}

function known(row: RunRow | undefined): { id: string; commit: string } | undefined {
  return row && { id: String(row.id), commit: row.commit_id };
}

function time(name: string, ms: number | null): object {
  return ms === null ? {} : { [name]: new Date(ms).toISOString() };
}

function given(name: string, value: unknown): object {
  return value === null ? {} : { [name]: value };
}
