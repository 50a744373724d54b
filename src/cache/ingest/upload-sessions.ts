// NARs that come in several bundles are proven while they arrive: what is known of each waits here for its next bundle.
// That only spares work. Its chunks are durable, so when it is not here any more (another server, a restart, too long a
// pause), the uploader names all chunks once more and the NAR is restored from storage.
import { LRUCache } from 'lru-cache';
import type { NarRestorer } from './nar-restorer.ts';

const LIFE_MS = 15 * 60_000;
const MOST_CHUNKS = 1_000_000; // about 150 bytes each
const MOST_NARS = 256;

export class UploadSessions {
  readonly #waiting = new LRUCache<string, NarRestorer>({
    max: MOST_NARS,
    maxSize: MOST_CHUNKS,
    sizeCalculation: ({ count }) => Math.max(1, count),
    ttl: LIFE_MS,
  });

  /** Takes what waits, if it has come exactly so far: whoever goes on with it has it alone. */
  take(owner: UploadOwner, hash: Buffer, chunks: number): NarRestorer | undefined {
    const key = keyOf(owner, hash);
    const waiting = this.#waiting.get(key);
    this.#waiting.delete(key);
    return waiting?.count === chunks ? waiting : undefined;
  }

  /** To be called once all chunks so far are durable. */
  keep(owner: UploadOwner, nar: NarRestorer): void {
    this.#waiting.set(keyOf(owner, nar.hash), nar);
  }
}

export interface UploadOwner {
  readonly cacheId: number;
  readonly writer: string;
}

function keyOf({ cacheId, writer }: UploadOwner, hash: Buffer): string {
  return `${cacheId}/${writer}/${hash.toString('base64')}`;
}
