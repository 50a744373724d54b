// Tables of src/fleet: runs, their events, what is known of each host, and which webhook deliveries were seen.
import type { Generated } from 'kysely';

export interface FleetTables {
  fleet_run: FleetRunTable;
  run_event: RunEventTable;
  host_status: HostStatusTable;
  webhook_delivery: WebhookDeliveryTable;
}

export interface FleetRunTable {
  id: Generated<number>;
  repository: string;
  branch: string;
  commit_id: string;
  /** webhook, poll or manual. */
  trigger_kind: string;
  reason: string;
  /** queued, running, done, nothing-to-do or failed. */
  state: string;
  stage: string | null;
  note: string;
  /** JSON {code, message, next?} of a failed run. */
  problem: string | null;
  release_commit: string | null;
  serial: number | null;
  /** 1: it did not fail by itself, the server stopped. */
  interrupted: number;
  created_at: number;
  started_at: number | null;
  ended_at: number | null;
}

/** Append-only; gone with its run. */
export interface RunEventTable {
  /** Grows over all runs, never used again. */
  id: Generated<number>;
  run_id: number;
  /** 1, 2, 3, … within the run. */
  seq: number;
  /** JSON, see src/api/run-events.ts. */
  data: string;
}

export interface HostStatusTable {
  name: string;
  /** JSON, see HostStatus in src/api/fleet-status.ts. */
  data: string;
  updated_at: number;
}

export interface WebhookDeliveryTable {
  repository: string;
  /** The forge's id of the delivery. */
  delivery: string;
  received_at: number;
}
