// What must stay in every cache that holds it: pins, the systems of the newest releases, and what hosts run.
import type { Database } from '../../storage/database.ts';

export interface RootPolicy {
  /** Newest releases whose system of a host is kept. */
  readonly releases: number;
  /** Systems that a host had before, beside those that it named last. */
  readonly generations: number;
}

export interface GcRoot {
  readonly storePath: string;
  /** Hash part of the store path. */
  readonly hash: string;
  /** Why it stays, for people. */
  readonly reason: string;
}

export async function readRoots(database: Database, policy: RootPolicy): Promise<GcRoot[]> {
  const pins = await database.read.selectFrom('pin').selectAll().orderBy('name').execute();
  const systems = await database.read
    .selectFrom('fleet_root')
    .selectAll()
    .orderBy('kind')
    .orderBy('host')
    .orderBy('seen_at', 'desc')
    .execute();
  const kept = [...Map.groupBy(systems, ({ kind, host }) => `${kind}/${host}`).values()].flatMap((list) =>
    keptSystems(list, policy),
  );
  return [
    ...pins.map(({ hash, name, store_path }) => ({ storePath: store_path, hash, reason: `pin ${name}` })),
    ...kept.map((system) => ({
      storePath: system.toplevel,
      hash: hashOf(system.toplevel),
      reason: system.kind === 'host' ? `on host ${system.host}` : `released for ${system.host}`,
    })),
  ];
}

interface System {
  readonly kind: 'host' | 'release';
  readonly host: string;
  readonly toplevel: string;
  readonly seen_at: number;
}

/** `systems`: of one kind and host, newest first. A host names several at once: current, booted, profile, boot default. */
function keptSystems(systems: readonly System[], policy: RootPolicy): System[] {
  const newest = systems[0];
  if (newest === undefined) return [];
  if (newest.kind === 'release') return systems.slice(0, policy.releases);
  const named = systems.filter(({ seen_at }) => seen_at === newest.seen_at).length;
  return systems.slice(0, named + policy.generations);
}

function hashOf(storePath: string): string {
  return storePath.slice(storePath.lastIndexOf('/') + 1).slice(0, 32);
}
