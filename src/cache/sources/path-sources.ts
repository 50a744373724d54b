// All sources of all caches: who is asked for a path that a cache does not hold, and what is remembered of the answers.
// This machine's store is looked at first, then all upstreams are asked at once and the first that has the path wins.
// A lookup takes two seconds at most, and costs nothing while the upstreams are known to be down.
import { LRUCache } from 'lru-cache';
import type { UpstreamConfig } from '../../api/source-config.ts';
import { findNetrcAuthorization } from '../../auth/netrc-lookup.ts';
import { fingerprint, type NarInfo } from '../../nix/narinfo.ts';
import { signText } from '../../nix/signature.ts';
import { storePathHash } from '../../nix/store-path.ts';
import { Semaphore } from '../../util/concurrency.ts';
import { deadline } from '../../util/deadline.ts';
import { SlipwayError } from '../../util/errors.ts';
import type { Metric } from '../../util/metrics.ts';
import type { Cache } from '../cache-registry.ts';
import { LocalStore, type ReadTree } from './local-store.ts';
import { renderOffer, type PathOffer, type PathSource } from './path-source.ts';
import type { RenderedNarInfo } from '../rendered-narinfo.ts';
import type { SigningKeys } from '../signing-keys.ts';
import { UpstreamMetrics } from './upstream-metrics.ts';
import { UpstreamPulls, type PullParts, type WantedNar } from './upstream-pull.ts';
import { Upstream, type OfferedLog } from './upstream.ts';

const DEFAULT_LOOKUP_MS = 2_000;
// Upstreams gain paths at any time, and lose few. A sure "no" is believed for a minute; one that somebody could not
// answer, for seconds.
const PRESENT_TTL_MS = 600_000;
const ABSENT_TTL_MS = 60_000;
const UNSURE_TTL_MS = 3_000;
const LOCAL_TTL_MS = 10_000;
const MEMORY_BYTES = 32 * 1024 * 1024;
const ABSENT_BYTES = 150;
const OFFER_BYTES = 1_000; // what hangs on it beside its text
const MOST_UPSTREAMS = 200;
const LOGS_AT_ONCE = 4;
/** Somebody waits for it, but no build does. */
const LOG_MS = 30_000;

export interface SourceParts extends Pick<PullParts, 'store' | 'directory'> {
  readonly keys: SigningKeys;
  /** The value behind a secret reference. */
  readonly readSecret: (reference: string) => Promise<string>;
  readonly readTree: ReadTree;
  readonly onProblem: (error: unknown) => void;
  /** Most time of a lookup, over all upstreams. */
  readonly lookupMs?: number;
}

type Answer = { readonly offer: PathOffer | undefined; readonly ttl: number };

export class PathSources implements AsyncDisposable {
  readonly #parts: SourceParts;
  readonly #metrics: UpstreamMetrics;
  readonly #pulls: UpstreamPulls;
  readonly #closing = new AbortController();
  readonly #logs = new Semaphore(LOGS_AT_ONCE);
  readonly #upstreams = new LRUCache<string, Upstream>({
    max: MOST_UPSTREAMS,
    dispose: (upstream) => upstream[Symbol.dispose](),
  });
  readonly #locals = new Map<string, LocalStore>();
  readonly #asking = new Map<string, Promise<PathOffer | undefined>>();
  readonly #known = new LRUCache<string, PathOffer | 'absent'>({
    maxSize: MEMORY_BYTES,
    sizeCalculation: (entry) => (entry === 'absent' ? ABSENT_BYTES : OFFER_BYTES + entry.narinfo.bytes),
  });

  constructor(parts: SourceParts) {
    this.#parts = parts;
    this.#metrics = new UpstreamMetrics(() => this.#upstreams.values());
    const onBad = ({ cache, info }: WantedNar): void =>
      void this.#known.delete(keyOf(cache, storePathHash(info.storePath)));
    this.#pulls = new UpstreamPulls({ ...parts, metrics: this.#metrics, onBad });
  }

  get metrics(): readonly Metric[] {
    return this.#metrics.metrics;
  }

  /** Whether there is anybody to ask. */
  has(cache: Cache): boolean {
    return cache.upstreams.length > 0 || cache.localStore !== undefined;
  }

  /** What memory says; `undefined` when somebody would have to be asked. */
  findKnown(cache: Cache, hash: string): RenderedNarInfo | 'absent' | undefined {
    const known = this.#known.get(keyOf(cache, hash));
    return known === undefined || known === 'absent' ? known : known.narinfo;
  }

  /** Never rejects: whoever cannot tell does not have it. */
  async find(cache: Cache, hash: string): Promise<PathOffer | undefined> {
    if (!this.has(cache)) return undefined;
    const key = keyOf(cache, hash);
    const known = this.#known.get(key);
    if (known !== undefined) return known === 'absent' ? undefined : known;
    const asking = this.#asking.get(key);
    if (asking) {
      this.#metrics.shared('narinfo');
      return await asking;
    }
    const answer = this.#ask(cache, hash, key).finally(() => this.#asking.delete(key));
    this.#asking.set(key, answer);
    return await answer;
  }

  /** A build log from the first upstream that has it. Never rejects, and nothing is kept: logs are asked for seldom. */
  async findLog(cache: Cache, name: string): Promise<OfferedLog | undefined> {
    if (cache.upstreams.length === 0) return undefined;
    return await this.#logs.run(async () => {
      const signal = deadline(LOG_MS, this.#closing.signal);
      for (const config of cache.upstreams) {
        const log = await this.#upstreamOf(config)
          .findLog(name, signal)
          .catch(() => undefined);
        if (log !== undefined) return log;
      }
      return undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#asking.values());
    await this.#pulls[Symbol.asyncDispose]();
    this.#upstreams.clear();
    for (const local of this.#locals.values()) local[Symbol.dispose]();
  }

  async #ask(cache: Cache, hash: string, key: string): Promise<PathOffer | undefined> {
    const { offer, ttl } = await this.#answer(cache, hash);
    this.#known.set(key, offer ?? 'absent', { ttl });
    return offer;
  }

  async #answer(cache: Cache, hash: string): Promise<Answer> {
    const local = await this.#askLocal(cache, hash);
    if (local !== undefined) return { offer: local, ttl: LOCAL_TTL_MS };
    const sources = cache.upstreams.map((config) => this.#sourceOf(cache, config));
    const done = new AbortController();
    const signal = deadline(this.#parts.lookupMs ?? DEFAULT_LOOKUP_MS, done.signal, this.#closing.signal);
    const { offer, sure } = await firstOffer(sources, hash, signal).finally(() => done.abort());
    if (offer !== undefined) return { offer, ttl: PRESENT_TTL_MS };
    const ttl = !sure ? UNSURE_TTL_MS : cache.localStore === undefined ? ABSENT_TTL_MS : LOCAL_TTL_MS;
    return { offer, ttl };
  }

  async #askLocal(cache: Cache, hash: string): Promise<PathOffer | undefined> {
    if (cache.localStore === undefined) return undefined;
    try {
      return await this.#localOf(cache, cache.localStore).find(hash);
    } catch (error) {
      this.#parts.onProblem(error);
      return undefined;
    }
  }

  #localOf(cache: Cache, config: NonNullable<Cache['localStore']>): LocalStore {
    const key = JSON.stringify([cache.name, cache.storeDir, config]);
    const known = this.#locals.get(key);
    if (known) return known;
    const { keys, readTree, onProblem } = this.#parts;
    const findKeys = async () => await keys.get(cache.name);
    const local = new LocalStore({ config, cache, readTree, findKeys, onProblem });
    this.#locals.set(key, local);
    return local;
  }

  #sourceOf(cache: Cache, config: UpstreamConfig): PathSource {
    const upstream = this.#upstreamOf(config);
    return {
      find: async (hash, signal) => {
        const info = await upstream.findNarInfo(hash, cache.storeDir, signal);
        if (info === undefined || this.#pulls.isBad({ cache, upstream, info })) return undefined;
        const narinfo = renderOffer(info, await this.#signatures(cache, config, info));
        return { narinfo, narHash: info.narHash.bytes, nar: this.#pulls.open({ cache, upstream, info }) };
      },
    };
  }

  /** The upstream's, as they are; the cache's own only where it was told to vouch for that upstream. */
  async #signatures(cache: Cache, config: UpstreamConfig, info: NarInfo): Promise<string[]> {
    if (!config.sign) return [...info.signatures];
    const message = fingerprint(info);
    const own = (await this.#parts.keys.get(cache.name)).map((key) => signText(key, message));
    return [...info.signatures.filter((one) => !own.includes(one)), ...own];
  }

  #upstreamOf(config: UpstreamConfig): Upstream {
    const key = JSON.stringify(config);
    const known = this.#upstreams.get(key);
    if (known) return known;
    const upstream = new Upstream(config, {
      metrics: this.#metrics,
      authorize: async () => await this.#authorize(config),
      onProblem: this.#parts.onProblem,
    });
    this.#upstreams.set(key, upstream);
    return upstream;
  }

  /** Read for each request: a secret that is rotated counts at once. */
  async #authorize({ url, token, netrc }: UpstreamConfig): Promise<string | undefined> {
    if (token !== undefined) return `Bearer ${await this.#parts.readSecret(token)}`;
    if (netrc === undefined) return undefined;
    return findNetrcAuthorization(await this.#parts.readSecret(netrc), new URL(url).hostname);
  }
}

/** Asks all at once. `sure` when everybody has said no. */
async function firstOffer(
  sources: readonly PathSource[],
  hash: string,
  signal: AbortSignal,
): Promise<{ readonly offer: PathOffer | undefined; readonly sure: boolean }> {
  let sure = true;
  const asked = sources.map(async (source) => {
    const offer = await source.find(hash, signal).catch((error: unknown) => {
      sure = false;
      throw error;
    });
    if (offer === undefined) throw NOT_THERE;
    return offer;
  });
  try {
    return { offer: await Promise.any(asked), sure: true };
  } catch {
    return { offer: undefined, sure };
  }
}

const NOT_THERE = new SlipwayError('not_found', 'The upstream does not have the path.');

/** Answers count for the settings that they were given under. */
function keyOf(cache: Cache, hash: string): string {
  return `${cache.id}/${cache.sourcesKey}/${hash}`;
}
