// What the events of a run change besides being stored: the run's row and the rows of hosts.
import type { Transaction } from 'kysely';
import type { HostStatus } from '../api/fleet-status.ts';
import type { RunEvent } from '../api/run-events.ts';
import type { Schema } from '../storage/schema.ts';
import { hostAfterProblem, hostAfterRun, hostAfterStep } from './host-status.ts';
import { listHosts, updateHost } from './host-store.ts';
import { recordEventSystems } from './root-store.ts';
import { followEvent } from './run-store.ts';

export interface Followed {
  readonly runChanged: boolean;
  /** Each as it is after the event, in order. */
  readonly hosts: readonly HostStatus[];
}

/** Follows events of run `run` in the transaction that stores them. */
export async function followEvents(
  tx: Transaction<Schema>,
  run: number,
  events: readonly RunEvent[],
): Promise<Followed> {
  let runChanged = false;
  const hosts: HostStatus[] = [];
  for (const event of events) {
    if (await followEvent(tx, run, event)) runChanged = true;
    await recordEventSystems(tx, run, event);
    hosts.push(...(await followHosts(tx, String(run), event)));
  }
  return { runChanged, hosts };
}

async function followHosts(tx: Transaction<Schema>, run: string, event: RunEvent): Promise<HostStatus[]> {
  if (event.kind === 'host') {
    return [await updateHost(tx, event.host, event.at, (host) => hostAfterStep(host, run, event))];
  }
  if (event.kind === 'problem' && event.host !== undefined && event.stage === 'deploy') {
    return [await updateHost(tx, event.host, event.at, (host) => hostAfterProblem(host, event))];
  }
  return event.kind === 'run-finished' ? await settleHosts(tx, run, event) : [];
}

async function settleHosts(
  tx: Transaction<Schema>,
  run: string,
  event: Extract<RunEvent, { kind: 'run-finished' }>,
): Promise<HostStatus[]> {
  const settled = (await listHosts(tx)).filter((host) => hostAfterRun(host, run, event) !== host);
  const changed: HostStatus[] = [];
  for (const { name } of settled) {
    changed.push(await updateHost(tx, name, event.at, (host) => hostAfterRun(host, run, event)));
  }
  return changed;
}
