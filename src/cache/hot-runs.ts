// Runs that were read several times lately, filled in, as they go out: what a whole fleet fetches is read once, not for every
// host. Bounded; one pass over everything, as a mirror makes it, keeps nothing.
import { LRUCache } from 'lru-cache';
import type { ContentLayout } from './content-layout.ts';
import type { Run } from './piece-runs.ts';

const CACHE_BYTES = 32 * 1024 * 1024;
/** Runs whose last reading is remembered: some gigabytes. */
const REMEMBERED = 4096;

export class HotRuns {
  readonly #bytes = new LRUCache<string, Buffer>({
    maxSize: CACHE_BYTES,
    sizeCalculation: (bytes) => Math.max(1, bytes.length),
  });
  readonly #read = new LRUCache<string, true>({ max: REMEMBERED });
  readonly #numbers = new WeakMap<ContentLayout, number>();
  #next = 0;

  /** The stored frames of the run, filled in; nobody may change them. Whether they still are what is stored is the caller's to know. */
  find(layout: ContentLayout, run: Run): Buffer | undefined {
    return this.#bytes.get(this.#nameOf(layout, run));
  }

  /** To be called before the run is read: whether it was read lately, so that its bytes are worth keeping. */
  isWarm(layout: ContentLayout, run: Run): boolean {
    const name = this.#nameOf(layout, run);
    const isWarm = this.#read.has(name);
    this.#read.set(name, true);
    return isWarm;
  }

  /** `bytes` are nobody's to use again. */
  keep(layout: ContentLayout, run: Run, bytes: Buffer): void {
    this.#bytes.set(this.#nameOf(layout, run), bytes);
  }

  /** By the very layout: one that is resolved anew may have other frames. */
  #nameOf(layout: ContentLayout, { index, count }: Run): string {
    let number = this.#numbers.get(layout);
    if (number === undefined) this.#numbers.set(layout, (number = this.#next++));
    return `${number} ${index} ${count}`;
  }
}
