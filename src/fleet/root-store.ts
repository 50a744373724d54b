// Which systems the cache must keep for the fleet: what hosts run or may go back to, and what releases brought them.
// src/cache/garbage/gc-roots.ts decides how many of them stay.
import type { Transaction } from 'kysely';
import type { AgentReport } from '../api/agent-report.ts';
import type { RunEvent } from '../api/run-events.ts';
import type { Schema } from '../storage/schema.ts';

/** Remembered for each host and kind; more than any policy keeps. */
const MOST_SYSTEMS = 100;

/** What a host's own report names. */
export async function recordReportedSystems(
  tx: Transaction<Schema>,
  report: AgentReport,
  at: number,
): Promise<void> {
  const named = [report.current, report.booted, report.profile, report.bootDefault].filter(isStorePath);
  for (const toplevel of new Set(named))
    await recordSystem(tx, { kind: 'host', host: report.host, toplevel }, at);
}

/** What an event of run `run` says of systems, in the transaction that stores it. */
export async function recordEventSystems(
  tx: Transaction<Schema>,
  run: number,
  event: RunEvent,
): Promise<void> {
  const at = Date.parse(event.at);
  if (event.kind === 'host' && event.phase === 'committed' && isStorePath(event.toplevel))
    await recordSystem(tx, { kind: 'host', host: event.host, toplevel: event.toplevel }, at);
  if (
    event.kind === 'stage-finished' &&
    event.stage === 'publish' &&
    ['ok', 'partly'].includes(event.outcome)
  )
    for (const [host, toplevel] of await systemsOfRun(tx, run))
      await recordSystem(tx, { kind: 'release', host, toplevel }, at);
}

interface System {
  readonly kind: 'host' | 'release';
  readonly host: string;
  readonly toplevel: string;
}

async function recordSystem(tx: Transaction<Schema>, system: System, at: number): Promise<void> {
  await tx
    .insertInto('fleet_root')
    .values({ ...system, seen_at: at })
    .onConflict((conflict) => conflict.columns(['kind', 'host', 'toplevel']).doUpdateSet({ seen_at: at }))
    .execute();
  const oldest = await tx
    .selectFrom('fleet_root')
    .select('seen_at')
    .where('kind', '=', system.kind)
    .where('host', '=', system.host)
    .orderBy('seen_at', 'desc')
    .offset(MOST_SYSTEMS)
    .limit(1)
    .executeTakeFirst();
  if (oldest === undefined) return;
  await tx
    .deleteFrom('fleet_root')
    .where('kind', '=', system.kind)
    .where('host', '=', system.host)
    .where('seen_at', '<=', oldest.seen_at)
    .execute();
}

/** The last system that the run named for each host. */
async function systemsOfRun(tx: Transaction<Schema>, run: number): Promise<ReadonlyMap<string, string>> {
  const rows = await tx
    .selectFrom('run_event')
    .select('data')
    .where('run_id', '=', run)
    .where('data', 'like', '%"kind":"host"%')
    .orderBy('seq')
    .execute();
  const systems = new Map<string, string>();
  for (const { data } of rows) {
    const event = JSON.parse(data) as RunEvent;
    if (event.kind === 'host' && isStorePath(event.toplevel)) systems.set(event.host, event.toplevel);
  }
  return systems;
}

/** A host that has no boot loader, or no profile yet, names none. */
function isStorePath(text: string | undefined): text is string {
  return text !== undefined && /^\/nix\/store\/[0-9abcdfghijklmnpqrsvwxyz]{32}-[^/]+$/.test(text);
}
