// Tables of garbage collection: what must stay, who collects, and what was collected.
import type { Generated } from 'kysely';

export interface GarbageTables {
  pin: PinTable;
  fleet_root: FleetRootTable;
  lease: LeaseTable;
  garbage_run: GarbageRunTable;
}

/** A path that somebody wants kept, in every cache that holds it, with all that it references. */
export interface PinTable {
  name: string;
  /** The 32 characters of the store path's hash part. */
  hash: string;
  store_path: string;
  created_at: number;
}

/** A system that a host runs or may go back to (`host`), or that a release brought it (`release`). */
export interface FleetRootTable {
  kind: 'host' | 'release';
  host: string;
  toplevel: string;
  /** Last time that somebody said so. */
  seen_at: number;
}

/** Who may do a thing that only one should do at a time. A crashed holder's lease expires by itself. */
export interface LeaseTable {
  name: string;
  holder: string;
  expires_at: number;
}

export interface GarbageRunTable {
  id: Generated<number>;
  started_at: number;
  ended_at: number;
  /** JSON, see GarbageReport in src/cache/garbage/collect-garbage.ts. */
  report: string;
}
