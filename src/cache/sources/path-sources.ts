// All sources of all caches: who is asked for a path that a cache does not hold, and what is remembered of the answers.
// This machine's store is looked at first, then all upstreams are asked at once and the first that has the path wins.
// A lookup takes two seconds at most, and costs nothing while the upstreams are known to be down.
import { LRUCache } from 'lru-cache';
import type { UpstreamConfig } from '../../api/source-config.ts';
import { findNetrcAuthorization } from '../../auth/netrc-lookup.ts';
import { fingerprint, type NarInfo } from '../../nix/narinfo.ts';
import { signText } from '../../nix/signature.ts';
import { storePathHash } from '../../nix/store-path.ts';
import { deadline } from '../../util/deadline.ts';
import type { Metric } from '../../util/metrics.ts';
import type { Cache } from '../cache-registry.ts';
import { LocalStore, type ReadTree } from './local-store.ts';
import { renderOffer, type PathOffer, type PathSource } from './path-source.ts';
import type { RenderedNarInfo } from '../rendered-narinfo.ts';
import type { SigningKeys } from '../signing-keys.ts';
import { firstAnswer, RememberedAnswers, type Answer } from './remembered-answers.ts';
import { UpstreamArchives } from './upstream-archives.ts';
import { UpstreamFiles, type KeptFile } from './upstream-files.ts';
import { UpstreamMetrics } from './upstream-metrics.ts';
import { UpstreamPulls, type PullParts, type WantedNar } from './upstream-pull.ts';
import { Upstream } from './upstream.ts';

const DEFAULT_LOOKUP_MS = 2_000;
const LOCAL_TTL_MS = 10_000;
const MEMORY_BYTES = 32 * 1024 * 1024;
const OFFER_BYTES = 1_000; // what hangs on it beside its text
const MOST_UPSTREAMS = 200;

export interface SourceParts extends Pick<PullParts, 'store' | 'directory'> {
  readonly keys: SigningKeys;
  /** The value behind a secret reference. */
  readonly readSecret: (reference: string) => Promise<string>;
  readonly readTree: ReadTree;
  readonly onProblem: (error: unknown) => void;
  /** Remembers a file of an upstream for when that is gone. */
  readonly keepFile: (file: KeptFile) => Promise<void>;
  /** Most time of a lookup, over all upstreams. */
  readonly lookupMs?: number;
}

export class PathSources implements AsyncDisposable {
  /** What else upstreams have. */
  readonly files: UpstreamFiles;
  readonly archives: UpstreamArchives;
  readonly #parts: SourceParts & { readonly lookupMs: number };
  readonly #metrics: UpstreamMetrics;
  readonly #pulls: UpstreamPulls;
  readonly #closing = new AbortController();
  readonly #upstreams = new LRUCache<string, Upstream>({
    max: MOST_UPSTREAMS,
    dispose: (upstream) => upstream[Symbol.dispose](),
  });
  readonly #locals = new Map<string, LocalStore>();
  readonly #offers: RememberedAnswers<PathOffer>;

  constructor(options: SourceParts) {
    const parts = { ...options, lookupMs: options.lookupMs ?? DEFAULT_LOOKUP_MS };
    this.#parts = parts;
    const metrics = new UpstreamMetrics(() => this.#upstreams.values());
    this.#metrics = metrics;
    this.#offers = new RememberedAnswers({
      maxBytes: MEMORY_BYTES,
      bytesOf: ({ narinfo }) => OFFER_BYTES + narinfo.bytes,
      onShared: () => metrics.shared('narinfo'),
    });
    const onBad = ({ cache, info }: WantedNar): void =>
      this.#offers.forget(keyOf(cache, storePathHash(info.storePath)));
    this.#pulls = new UpstreamPulls({ ...parts, metrics, onBad });
    const upstreamsOf = (cache: Cache): Upstream[] =>
      cache.upstreams.map((config) => this.#upstreamOf(config));
    this.files = new UpstreamFiles({ ...parts, metrics, upstreamsOf, keep: parts.keepFile });
    this.archives = new UpstreamArchives({ ...parts, metrics, upstreamsOf });
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
    const known = this.#offers.findKnown(keyOf(cache, hash));
    return known === undefined || known === 'absent' ? known : known.narinfo;
  }

  /** Never rejects: whoever cannot tell does not have it. */
  async find(cache: Cache, hash: string): Promise<PathOffer | undefined> {
    if (!this.has(cache)) return undefined;
    return await this.#offers.find(keyOf(cache, hash), async () => await this.#ask(cache, hash));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#offers.settled();
    for (const part of [this.files, this.archives, this.#pulls]) await part[Symbol.asyncDispose]();
    this.#upstreams.clear();
    for (const local of this.#locals.values()) local[Symbol.dispose]();
  }

  async #ask(cache: Cache, hash: string): Promise<Answer<PathOffer>> {
    const local = await this.#askLocal(cache, hash);
    if (local !== undefined) return { found: local, ttl: LOCAL_TTL_MS };
    const sources = cache.upstreams.map((config) => this.#sourceOf(cache, config));
    const done = new AbortController();
    const signal = deadline(this.#parts.lookupMs, done.signal, this.#closing.signal);
    const { found, ttl } = await firstAnswer(
      sources,
      async (source) => await source.find(hash, signal),
    ).finally(() => done.abort());
    const localFirst = found === undefined && cache.localStore !== undefined;
    return { found, ttl: localFirst ? Math.min(ttl, LOCAL_TTL_MS) : ttl };
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

/** Answers count for the settings that they were given under. */
function keyOf(cache: Cache, hash: string): string {
  return `${cache.id}/${cache.sourcesKey}/${hash}`;
}
