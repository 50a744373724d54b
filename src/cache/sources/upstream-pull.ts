// Fetches NARs from upstreams: each once, however many clients ask for it. While it arrives it is checked, cut and stored,
// and goes out to whoever waits for it; when its hash is right the path is published, and the next client is served from
// storage. A failure before the first byte means that the NAR is absent; a later one breaks the transfer off.
import { createHash } from 'node:crypto';
import type { NarInfo } from '../../nix/narinfo.ts';
import { formatHash } from '../../nix/hash.ts';
import { NarReader } from '../../nix/nar-reader.ts';
import { storePathHash } from '../../nix/store-path.ts';
import { LRUCache } from 'lru-cache';
import { SlipwayError, isCode } from '../../util/errors.ts';
import type { Cache } from '../cache-registry.ts';
import { checkContentAddress } from '../trust/content-address.ts';
import type { OpenedContent } from '../content-reader.ts';
import { FlatHash } from '../ingest/flat-hash.ts';
import type { PulledPaths, PulledStore } from './pulled-paths.ts';
import { SharedFetches } from './shared-fetches.ts';
import type { Spool } from './spool.ts';
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

export interface WantedNar {
  readonly cache: Cache;
  readonly upstream: Upstream;
  /** As the upstream has it, verified. */
  readonly info: NarInfo;
}

/** Where a NAR goes while it arrives. */
interface Receivers {
  readonly spool: Spool;
  readonly store: PulledStore;
  readonly signal: AbortSignal;
}

export class UpstreamPulls implements AsyncDisposable {
  readonly #parts: PullParts;
  readonly #fetches: SharedFetches;
  readonly #bad = new LRUCache<string, true>({ max: MOST_BAD, ttl: BAD_TTL_MS });

  constructor(parts: PullParts) {
    this.#parts = parts;
    const onShared = (): void => parts.metrics.shared('nar');
    this.#fetches = new SharedFetches({ ...parts, atOnce: FETCHES, onShared });
  }

  /** Whether this NAR was fetched lately and was not what the narinfo says. */
  isBad(wanted: WantedNar): boolean {
    return this.#bad.has(keyOf(wanted));
  }

  open(wanted: WantedNar): OpenedContent {
    const size = wanted.info.narSize;
    const fetch = async (spool: Spool, signal: AbortSignal): Promise<void> =>
      await this.#fetch(wanted, spool, signal);
    return {
      length: size,
      start: async ({ start, end }) =>
        this.isBad(wanted)
          ? undefined
          : await this.#fetches.read({ key: keyOf(wanted), size, fetch }, start, end),
    };
  }

  /** Fetches under way are given up. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#fetches[Symbol.asyncDispose]();
  }

  async #fetch(wanted: WantedNar, spool: Spool, signal: AbortSignal): Promise<void> {
    const { cache, info, upstream } = wanted;
    const started = performance.now();
    try {
      await using store = await this.#parts.store.begin(cache, info.narSize);
      const flatHash = await this.#receive(wanted, { spool, store, signal });
      spool.prove();
      upstream.noteNar(undefined, performance.now() - started);
      await store.publish({ cache, info, flatHash, upstream });
    } catch (error) {
      if (!signal.aborted) {
        if (!isPassing(error)) this.#condemn(wanted);
        upstream.noteNar(error, performance.now() - started);
      }
      throw error;
    }
  }

  #condemn(wanted: WantedNar): void {
    this.#bad.set(keyOf(wanted), true);
    this.#parts.onBad(wanted);
  }

  /** Throws unless exactly the NAR that was signed has come. Returns the hash of the file, when it is a single one. */
  async #receive(wanted: WantedNar, { spool, store, signal }: Receivers): Promise<Buffer | undefined> {
    const { upstream, info, cache } = wanted;
    const flat = new FlatHash();
    const reader = new NarReader(flat, { maxSize: info.narSize });
    const hash = createHash('sha256');
    const most = info.narSize + info.narSize / 64 + 1024 * 1024; // compression may grow what is random, not by much
    const file = upstream.readNar({ url: info.url, what: info.storePath, most }, signal);
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
