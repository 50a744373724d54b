// Fetches NARs from upstreams: each once, however many clients ask for it. While it arrives it is checked, cut and stored,
// and goes out to whoever waits for it; when its hash is right the path is published, and the next client is served from
// storage. A failure before the first byte means that the NAR is absent; a later one breaks the transfer off.
import { createHash } from 'node:crypto';
import type { NarInfo } from '../../nix/narinfo.ts';
import { formatHash } from '../../nix/hash.ts';
import { NarReader } from '../../nix/nar-reader.ts';
import { storePathHash } from '../../nix/store-path.ts';
import { LRUCache } from 'lru-cache';
import { Semaphore } from '../../util/concurrency.ts';
import { SlipwayError, isCode } from '../../util/errors.ts';
import type { Cache } from '../cache-registry.ts';
import { checkContentAddress } from '../trust/content-address.ts';
import type { OpenedContent } from '../content-reader.ts';
import { FlatHash } from '../ingest/flat-hash.ts';
import type { PulledPaths, PulledStore } from './pulled-paths.ts';
import { Spool } from './spool.ts';
import { decompressNar, readableCompression } from './upstream-compression.ts';
import type { UpstreamMetrics } from './upstream-metrics.ts';
import type { Upstream } from './upstream.ts';

/** NARs that are fetched at once; more wait their turn. Each holds some 20 MiB, and its size on the disk for a while. */
const FETCHES = 8;
/** How long a NAR that was not what its narinfo said is not tried again. */
const BAD_TTL_MS = 600_000;
const MOST_BAD = 10_000;

export interface PullParts {
  readonly store: PulledPaths;
  /** Where NARs lie while they are fetched. */
  readonly directory: string;
  readonly metrics: UpstreamMetrics;
  readonly onProblem: (error: unknown) => void;
  /** Called when `isBad` becomes true of a path. */
  readonly onBad: (wanted: WantedNar) => void;
}

interface Pull {
  readonly spool: Promise<Spool>;
  readonly done: Promise<void>;
}

export interface WantedNar {
  readonly cache: Cache;
  readonly upstream: Upstream;
  /** As the upstream has it, verified. */
  readonly info: NarInfo;
}

export class UpstreamPulls implements AsyncDisposable {
  readonly #parts: PullParts;
  readonly #running = new Map<string, Pull>();
  readonly #bad = new LRUCache<string, true>({ max: MOST_BAD, ttl: BAD_TTL_MS });
  readonly #turns = new Semaphore(FETCHES);
  readonly #closing = new AbortController();

  constructor(parts: PullParts) {
    this.#parts = parts;
  }

  /** Whether this NAR was fetched lately and was not what the narinfo says. */
  isBad(wanted: WantedNar): boolean {
    return this.#bad.has(keyOf(wanted));
  }

  open(wanted: WantedNar): OpenedContent {
    return {
      length: wanted.info.narSize,
      start: async ({ start, end }) => await this.#start(wanted, start, end),
    };
  }

  /** Fetches under way are given up. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled([...this.#running.values()].map(async ({ done }) => await done));
  }

  async #start(wanted: WantedNar, start: number, end: number): Promise<AsyncIterable<Buffer> | undefined> {
    if (this.isBad(wanted) || this.#closing.signal.aborted) return undefined;
    try {
      const spool = await this.#share(wanted).spool;
      return await begun(spool.read(start, end));
    } catch {
      return undefined; // reported by the fetch itself
    }
  }

  #share(wanted: WantedNar): Pull {
    const key = keyOf(wanted);
    const running = this.#running.get(key);
    if (running) {
      this.#parts.metrics.shared('nar');
      return running;
    }
    const spool = Spool.open(this.#parts.directory, wanted.info.narSize);
    const done = this.#fetch(wanted, spool).finally(() => this.#running.delete(key));
    done.catch(() => undefined); // reported where it happens
    const pull = { spool, done };
    this.#running.set(key, pull);
    return pull;
  }

  async #fetch(wanted: WantedNar, opening: Promise<Spool>): Promise<void> {
    using _turn = await this.#turns.acquire();
    const started = performance.now();
    const spool = await opening.catch((error: unknown) => {
      this.#parts.onProblem(error);
      throw error;
    });
    try {
      await using store = await this.#parts.store.begin(wanted.cache, wanted.info.narSize);
      const flatHash = await this.#receive(wanted, spool, store);
      spool.prove();
      wanted.upstream.noteNar(undefined, performance.now() - started);
      const { cache, info, upstream } = wanted;
      await store.publish({ cache, info, flatHash, upstream });
    } catch (error) {
      spool.fail(error);
      if (this.#closing.signal.aborted) return;
      if (!isPassing(error)) this.#condemn(wanted);
      wanted.upstream.noteNar(error, performance.now() - started);
    } finally {
      await spool.release();
    }
  }

  #condemn(wanted: WantedNar): void {
    this.#bad.set(keyOf(wanted), true);
    this.#parts.onBad(wanted);
  }

  /** Throws unless exactly the NAR that was signed has come. Returns the hash of the file, when it is a single one. */
  async #receive(wanted: WantedNar, spool: Spool, store: PulledStore): Promise<Buffer | undefined> {
    const { upstream, info, cache } = wanted;
    const flat = new FlatHash();
    const reader = new NarReader(flat, { maxSize: info.narSize });
    const hash = createHash('sha256');
    const file = upstream.readNar(info, this.#closing.signal);
    for await (const bytes of decompressNar(file, readableCompression(info.compression) ?? 'none')) {
      reader.write(bytes);
      hash.update(bytes);
      await store.write(bytes);
      await spool.append(bytes);
    }
    reader.end();
    const nar = { algo: 'sha256' as const, bytes: hash.digest() };
    if (formatHash(nar) !== formatHash(info.narHash))
      throw new SlipwayError(
        'nar_hash_mismatch',
        `${upstream.name} sent a NAR of ${info.storePath} with ${formatHash(nar)} instead of ${formatHash(info.narHash)}.`,
        { next: 'It is not served. Tell those who run the upstream.' },
      );
    const flatHash = flat.hash();
    checkContentAddress(info, cache.storeDir, { nar, flat: flatHash && { algo: 'sha256', bytes: flatHash } });
    return flatHash;
  }
}

/** Failures that are not the NAR's own: it may be fetched again at once. */
function isPassing(error: unknown): boolean {
  return !(['nar_invalid', 'nar_hash_mismatch', 'narinfo_invalid', 'too_large'] as const).some((code) =>
    isCode(error, code),
  );
}

function keyOf({ cache, info }: WantedNar): string {
  return `${cache.id}/${storePathHash(info.storePath)}/${formatHash(info.narHash)}`;
}

/** Reads the first piece at once, so that what fails before it is found before anything is promised. */
async function begun(pieces: AsyncIterable<Buffer>): Promise<AsyncIterable<Buffer>> {
  const iterator = pieces[Symbol.asyncIterator]();
  const first = await iterator.next();
  return resumed(first, iterator);
}

async function* resumed(
  first: IteratorResult<Buffer>,
  iterator: AsyncIterator<Buffer>,
): AsyncIterable<Buffer> {
  try {
    for (let next = first; next.done !== true; next = await iterator.next()) yield next.value;
  } finally {
    await iterator.return?.();
  }
}
