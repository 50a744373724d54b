// The paths of a cache (with the overlays that lie over it) and what they reference, packed for a million of them:
// about 120 bytes a path. Rows of one store path in several caches are one node.
import { GrowingNumbers } from '../growing-numbers.ts';
import { PathHashIds } from './path-hash-ids.ts';

export interface GraphPath {
  readonly cacheId: number;
  /** Hash part of the store path. */
  readonly hash: string;
  /** Hash parts of what it references; those that are not in the graph do no harm. */
  readonly references: readonly string[];
  readonly createdAt: number;
  readonly lastUsedAt: number;
  readonly tombstonedAt: number | undefined;
  /** Bytes of its NAR. */
  readonly size: number;
  /** Fetched from an upstream, which still has it. */
  readonly borrowed: boolean;
}

/** What retention looks at; without the references. */
export type GraphRow = Omit<GraphPath, 'references'>;

export class PathGraph {
  readonly #ids = new PathHashIds();
  readonly #rowNode = new GrowingNumbers(Int32Array);
  readonly #rowCache = new GrowingNumbers(Int32Array);
  readonly #created = new GrowingNumbers(Float64Array);
  readonly #used = new GrowingNumbers(Float64Array);
  readonly #tombstoned = new GrowingNumbers(Float64Array);
  readonly #size = new GrowingNumbers(Float64Array);
  readonly #borrowed = new GrowingNumbers(Uint8Array);
  readonly #edgesEnd = new GrowingNumbers(Int32Array);
  readonly #edges = new GrowingNumbers(Int32Array);

  /** Number of rows: paths, counted once a cache. */
  get rows(): number {
    return this.#rowNode.length;
  }

  /** Number of store paths that are in the graph or referenced by one. */
  get nodes(): number {
    return this.#ids.count;
  }

  add(path: GraphPath): void {
    this.#rowNode.push(this.#ids.idOf(path.hash));
    this.#rowCache.push(path.cacheId);
    this.#created.push(path.createdAt);
    this.#used.push(path.lastUsedAt);
    this.#tombstoned.push(path.tombstonedAt ?? Number.NaN);
    this.#size.push(path.size);
    this.#borrowed.push(path.borrowed ? 1 : 0);
    for (const reference of path.references) this.#edges.push(this.#ids.idOf(reference));
    this.#edgesEnd.push(this.#edges.length);
  }

  row(index: number): GraphRow {
    const tombstonedAt = this.#tombstoned.at(index);
    return {
      cacheId: this.#rowCache.at(index),
      hash: this.#ids.textOf(this.nodeOf(index)),
      createdAt: this.#created.at(index),
      lastUsedAt: this.#used.at(index),
      tombstonedAt: Number.isNaN(tombstonedAt) ? undefined : tombstonedAt,
      size: this.#size.at(index),
      borrowed: this.#borrowed.at(index) === 1,
    };
  }

  nodeOf(row: number): number {
    return this.#rowNode.at(row);
  }

  /** Every node that the marked ones reach, themselves included: marked in place. */
  close(marks: Uint8Array): void {
    const { first, next } = this.#rowsByNode();
    const open: number[] = [];
    for (let node = 0; node < marks.length; node++) if (marks[node] === 1) open.push(node);
    for (let node = open.pop(); node !== undefined; node = open.pop())
      for (let row = first[node] ?? -1; row !== -1; row = next[row] ?? -1) this.#mark(row, marks, open);
  }

  /** Nodes that the row's path references. */
  references(row: number): number[] {
    const nodes: number[] = [];
    const end = this.#edgesEnd.at(row);
    for (let edge = this.#edgesStart(row); edge < end; edge++) nodes.push(this.#edges.at(edge));
    return nodes;
  }

  #mark(row: number, marks: Uint8Array, open: number[]): void {
    const end = this.#edgesEnd.at(row);
    for (let edge = this.#edgesStart(row); edge < end; edge++) {
      const target = this.#edges.at(edge);
      if (marks[target] === 1) continue;
      marks[target] = 1;
      open.push(target);
    }
  }

  #edgesStart(row: number): number {
    return row === 0 ? 0 : this.#edgesEnd.at(row - 1);
  }

  /** Lists of rows by node, as a chain through two arrays. */
  #rowsByNode(): { readonly first: Int32Array; readonly next: Int32Array } {
    const first = new Int32Array(this.nodes).fill(-1);
    const next = new Int32Array(this.rows).fill(-1);
    for (let row = 0; row < this.rows; row++) {
      next[row] = first[this.nodeOf(row)] ?? -1;
      first[this.nodeOf(row)] = row;
    }
    return { first, next };
  }
}
