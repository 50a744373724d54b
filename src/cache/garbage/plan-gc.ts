// What garbage collection does to published paths: a pure plan from the graph of paths, the roots and the retention.
//
// A path goes in two steps. What nothing keeps is tombstoned: still served, but being asked for, pushed, or referenced
// by something new takes the tombstone off again, with all that the path needs, in one transaction (rescue-paths.ts).
// What has been tombstoned for the grace time is removed, unless something reaches it that has not. So whatever is not
// in the removal list has its closure outside of that list, and whatever is saved later saves its own closure; removal
// goes from referrers to what they reference, so that a crash in between leaves no path without its closure.
import type { GraphRow, PathGraph } from './path-graph.ts';

export interface Retention {
  /** How long a path is kept after its last use or its publication; undefined: for ever. */
  readonly keepMs: number | undefined;
  readonly by: 'use' | 'age';
  /** Most bytes of paths fetched from upstreams; the least recently used go first. */
  readonly borrowedBytes: number | undefined;
}

export interface GcPolicy {
  readonly now: number;
  /** Hash parts of what must stay, whatever its age: pins, releases, what hosts run. */
  readonly roots: ReadonlySet<string>;
  /** By cache. A cache that is not in it keeps everything. */
  readonly retention: ReadonlyMap<number, Retention>;
  /** Between tombstone and removal. */
  readonly graceMs: number;
  /** The same for paths that an upstream still has. */
  readonly borrowedGraceMs: number;
  /** A path younger than this is kept: what will need it may still be on its way. */
  readonly youngMs: number;
}

export interface RowName {
  readonly cacheId: number;
  readonly hash: string;
}

export interface GcPlan {
  readonly tombstone: readonly RowName[];
  /** Tombstoned, but kept by something again. */
  readonly revive: readonly RowName[];
  /** Referrers before what they reference. */
  readonly remove: readonly RowName[];
  readonly kept: number;
  /** Tombstoned before, and waiting for their grace to end or for what still references them. */
  readonly waiting: number;
}

export function planGc(graph: PathGraph, policy: GcPolicy): GcPlan {
  const kept = keptNodes(graph, policy);
  const expired: number[] = [];
  const tombstone: RowName[] = [];
  const revive: RowName[] = [];
  let waiting = 0;
  for (let index = 0; index < graph.rows; index++) {
    const row = graph.row(index);
    if (kept[graph.nodeOf(index)] === 1) {
      if (row.tombstonedAt !== undefined) revive.push(nameOf(row));
    } else if (row.tombstonedAt === undefined) tombstone.push(nameOf(row));
    else if (isExpired(row, policy)) expired.push(index);
    else waiting++;
  }
  const removed = withoutNeeded(graph, expired);
  return {
    tombstone,
    revive,
    remove: referrersFirst(graph, removed).map((index) => nameOf(graph.row(index))),
    kept: graph.rows - tombstone.length - expired.length - waiting,
    waiting: waiting + expired.length - removed.length,
  };
}

/** Marks of the nodes that a root, an age or a last use keeps, and of all that these reach. */
function keptNodes(graph: PathGraph, policy: GcPolicy): Uint8Array {
  const marks = new Uint8Array(graph.nodes);
  const borrowed: number[] = [];
  for (let index = 0; index < graph.rows; index++) {
    const row = graph.row(index);
    if (isKeptByItself(row, policy)) marks[graph.nodeOf(index)] = 1;
    else if (isBounded(row, policy)) borrowed.push(index);
  }
  keepRecentlyBorrowed(graph, policy, { marks, borrowed });
  graph.close(marks);
  return marks;
}

function isKeptByItself(row: GraphRow, policy: GcPolicy): boolean {
  if (policy.roots.has(row.hash) || row.createdAt > policy.now - policy.youngMs) return true;
  const retention = policy.retention.get(row.cacheId);
  if (retention === undefined) return true;
  if (isBounded(row, policy)) return false;
  if (retention.keepMs === undefined) return true;
  const since = retention.by === 'use' ? Math.max(row.lastUsedAt, row.createdAt) : row.createdAt;
  return since > policy.now - retention.keepMs;
}

function isBounded(row: GraphRow, policy: GcPolicy): boolean {
  return row.borrowed && policy.retention.get(row.cacheId)?.borrowedBytes !== undefined;
}

/** Of what upstreams can give again: the most recently used, up to each cache's bound. */
function keepRecentlyBorrowed(
  graph: PathGraph,
  policy: GcPolicy,
  { marks, borrowed }: { readonly marks: Uint8Array; readonly borrowed: readonly number[] },
): void {
  const left = new Map([...policy.retention].map(([id, { borrowedBytes }]) => [id, borrowedBytes ?? 0]));
  const byUse = borrowed.toSorted((a, b) => graph.row(b).lastUsedAt - graph.row(a).lastUsedAt);
  for (const index of byUse) {
    const { cacheId, size } = graph.row(index);
    const room = (left.get(cacheId) ?? 0) - size;
    left.set(cacheId, room);
    if (room >= 0) marks[graph.nodeOf(index)] = 1;
  }
}

function isExpired(row: GraphRow, policy: GcPolicy): boolean {
  const grace = row.borrowed ? policy.borrowedGraceMs : policy.graceMs;
  return row.tombstonedAt !== undefined && row.tombstonedAt <= policy.now - grace;
}

/** The expired rows that no row reaches which stays for now. */
function withoutNeeded(graph: PathGraph, expired: readonly number[]): number[] {
  const leaving = new Uint8Array(graph.rows);
  for (const index of expired) leaving[index] = 1;
  const needed = new Uint8Array(graph.nodes);
  for (let index = 0; index < graph.rows; index++) if (leaving[index] !== 1) needed[graph.nodeOf(index)] = 1;
  graph.close(needed);
  return expired.filter((index) => needed[graph.nodeOf(index)] !== 1);
}

/** Kahn's order over the rows; members of a circle, which no honest closure has, come last. */
function referrersFirst(graph: PathGraph, rows: readonly number[]): number[] {
  const groups = new RowsByNode(graph, rows);
  const referrers = new Int32Array(graph.nodes);
  const count = (row: number, step: 1 | -1): number[] => {
    const others = graph.references(row).filter((target) => target !== graph.nodeOf(row));
    for (const target of others) referrers[target] = (referrers[target] ?? 0) + step;
    return others;
  };
  for (const row of rows) count(row, 1);
  const ready = groups.nodes().filter((node) => referrers[node] === 0);
  const ordered: number[] = [];
  for (let node = ready.pop(); node !== undefined; node = ready.pop())
    for (const row of groups.take(node)) {
      ordered.push(row);
      for (const target of count(row, -1))
        if (referrers[target] === 0 && groups.has(target)) ready.push(target);
    }
  for (const node of groups.nodes()) ordered.push(...groups.take(node));
  return ordered;
}

/** Rows in groups by their node, each of which is taken once: chains through two arrays instead of a million lists. */
class RowsByNode {
  readonly #graph: PathGraph;
  readonly #rows: readonly number[];
  /** By node: a place in `rows`, or -1. */
  readonly #first: Int32Array;
  /** By place: the next place of the same node, or -1. */
  readonly #next: Int32Array;

  constructor(graph: PathGraph, rows: readonly number[]) {
    this.#graph = graph;
    this.#rows = rows;
    this.#first = new Int32Array(graph.nodes).fill(-1);
    this.#next = new Int32Array(rows.length);
    for (let place = rows.length - 1; place >= 0; place--) {
      const node = graph.nodeOf(rows[place] ?? 0);
      this.#next[place] = this.#first[node] ?? -1;
      this.#first[node] = place;
    }
  }

  has(node: number): boolean {
    return this.#first[node] !== -1;
  }

  /** Of the groups that were not taken. */
  nodes(): number[] {
    const nodes: number[] = [];
    for (const [place, row] of this.#rows.entries()) {
      const node = this.#graph.nodeOf(row);
      if (this.#first[node] === place) nodes.push(node);
    }
    return nodes;
  }

  take(node: number): number[] {
    const taken: number[] = [];
    for (let place = this.#first[node] ?? -1; place !== -1; place = this.#next[place] ?? -1)
      taken.push(this.#rows[place] ?? 0);
    this.#first[node] = -1;
    return taken;
  }
}

function nameOf({ cacheId, hash }: GraphRow): RowName {
  return { cacheId, hash };
}
