// NARs that come in several bundles are proven while they arrive: what is known of each waits here for its next bundle.
// That only spares work. Its chunks are durable or about to be, so when it is not here any more (another server, a restart, too long a
// pause), the uploader names all chunks once more and the NAR is restored from storage.
import { LRUCache } from 'lru-cache';
import type { BundlePlace } from './bundle-order.ts';
import type { NarRestorer } from './nar-restorer.ts';

const LIFE_MS = 15 * 60_000;
const MOST_CHUNKS = 1_000_000; // about 150 bytes each
const MOST_NARS = 256;

/** A NAR so far, and the bundle that brought the last of it. */
export interface HalfNar {
  readonly restorer: NarRestorer;
  readonly bundle: BundlePlace;
}

export class UploadSessions {
  readonly #waiting = new LRUCache<string, HalfNar>({
    max: MOST_NARS,
    maxSize: MOST_CHUNKS,
    sizeCalculation: ({ restorer }) => Math.max(1, restorer.count),
    ttl: LIFE_MS,
  });

  /** Takes what waits, if it has come exactly so far: whoever goes on with it has it alone. */
  take(owner: UploadOwner, hash: Buffer, chunks: number): HalfNar | undefined {
    const key = keyOf(owner, hash);
    const waiting = this.#waiting.get(key);
    this.#waiting.delete(key);
    if (waiting?.restorer.count !== chunks || waiting.bundle.hasFailed) return undefined;
    return waiting;
  }

  /** Its chunks count on those of `bundle`: who goes on with it must not end before that is committed. */
  keep(owner: UploadOwner, nar: HalfNar): void {
    this.#waiting.set(keyOf(owner, nar.restorer.hash), nar);
  }
}

export interface UploadOwner {
  readonly cacheId: number;
  readonly writer: string;
}

function keyOf({ cacheId, writer }: UploadOwner, hash: Buffer): string {
  return `${cacheId}/${writer}/${hash.toString('base64')}`;
}
