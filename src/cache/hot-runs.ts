// Runs that were read several times lately, filled in, as they go out: what a whole fleet fetches is read once, not for every
// host. Bounded; one pass over everything, as a mirror makes it, keeps nothing. What is kept stays as long as it is used: of more
// than there is room for, read again and again, a part comes from memory instead of all of it pushing itself out.
import { LRUCache } from 'lru-cache';
import type { ContentLayout } from './content-layout.ts';
import type { Run } from './piece-runs.ts';

const CACHE_BYTES = 32 * 1024 * 1024;
/** What was not used for so long gives its place to others. */
const STALE_MS = 30_000;
/** Runs whose last reading is remembered: some gigabytes. */
const REMEMBERED = 4096;

interface HotRun {
  readonly bytes: Buffer;
  usedAt: number;
}

export class HotRuns {
  readonly #now: () => number;
  readonly #kept = new LRUCache<string, HotRun>({
    maxSize: CACHE_BYTES,
    sizeCalculation: ({ bytes }) => Math.max(1, bytes.length),
  });
  readonly #read = new LRUCache<string, true>({ max: REMEMBERED });
  readonly #numbers = new WeakMap<ContentLayout, number>();
  #next = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** The stored frames of the run, filled in; nobody may change them. Whether they still are what is stored is the caller's to know. */
  find(layout: ContentLayout, run: Run): Buffer | undefined {
    const kept = this.#kept.get(this.#nameOf(layout, run));
    if (kept !== undefined) kept.usedAt = this.#now();
    return kept?.bytes;
  }

  /** To be called before the run is read: whether its bytes are worth keeping, because it was read lately and there is a place. */
  isWorthKeeping(layout: ContentLayout, run: Run): boolean {
    const name = this.#nameOf(layout, run);
    const isWarm = this.#read.has(name);
    this.#read.set(name, true);
    return isWarm && this.#hasPlace(run.length);
  }

  /** `bytes` are nobody's to use again. */
  keep(layout: ContentLayout, run: Run, bytes: Buffer): void {
    this.#kept.set(this.#nameOf(layout, run), { bytes, usedAt: this.#now() });
  }

  #hasPlace(length: number): boolean {
    if (this.#kept.calculatedSize + length <= CACHE_BYTES) return true;
    const [coldest] = this.#kept.rvalues();
    return coldest === undefined || this.#now() - coldest.usedAt > STALE_MS;
  }

  /** By the very layout: one that is resolved anew may have other frames. */
  #nameOf(layout: ContentLayout, { index, count }: Run): string {
    let number = this.#numbers.get(layout);
    if (number === undefined) this.#numbers.set(layout, (number = this.#next++));
    return `${number} ${index} ${count}`;
  }
}
