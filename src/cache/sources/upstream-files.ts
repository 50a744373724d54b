// What else upstreams have beside paths: realisations, build logs, and where debug information lies. Realisations are
// believed for their signature and may be kept; nobody signs the others, so they are handed on and not kept.
import { debugLinkNames, formatDebugLink, parseDebugLinkName, type DebugLink } from '../../nix/debug-link.ts';
import {
  formatRealisation,
  parseRealisationName,
  realisationFingerprint,
  type Realisation,
  type RealisationKey,
} from '../../nix/realisation.ts';
import { signText } from '../../nix/signature.ts';
import { Semaphore } from '../../util/concurrency.ts';
import { deadline } from '../../util/deadline.ts';
import type { Cache } from '../cache-registry.ts';
import type { SigningKeys } from '../signing-keys.ts';
import { firstAnswer, RememberedAnswers } from './remembered-answers.ts';
import type { UpstreamMetrics } from './upstream-metrics.ts';
import type { OfferedFile, Upstream } from './upstream.ts';

const MEMORY_BYTES = 8 * 1024 * 1024;
const ENTRY_BYTES = 500; // beside the body
const LOGS_AT_ONCE = 4;
/** Somebody waits for it, but no build does. */
const LOG_MS = 30_000;

export interface UpstreamFilesParts {
  readonly keys: SigningKeys;
  readonly metrics: UpstreamMetrics;
  readonly upstreamsOf: (cache: Cache) => readonly Upstream[];
  /** Most time of a lookup, over all upstreams; logs have more. */
  readonly lookupMs: number;
  /** Remembers a realisation for when the upstream is gone. */
  readonly keep: (file: KeptFile) => Promise<void>;
  readonly onProblem: (error: unknown) => void;
}

export interface KeptFile {
  readonly cache: Cache;
  readonly name: string;
  readonly body: Buffer;
  readonly upstream: Upstream;
}

export class UpstreamFiles implements AsyncDisposable {
  readonly #parts: UpstreamFilesParts;
  readonly #closing = new AbortController();
  readonly #logs = new Semaphore(LOGS_AT_ONCE);
  readonly #keeping = new Set<Promise<void>>();
  readonly #realisations: RememberedAnswers<OfferedFile>;
  readonly #links: RememberedAnswers<OfferedFile>;

  constructor(parts: UpstreamFilesParts) {
    this.#parts = parts;
    const memory = { maxBytes: MEMORY_BYTES, bytesOf: ({ body }: OfferedFile) => ENTRY_BYTES + body.length };
    const shared = (kind: 'realisation' | 'debuginfo') => () => parts.metrics.shared(kind);
    this.#realisations = new RememberedAnswers({ ...memory, onShared: shared('realisation') });
    this.#links = new RememberedAnswers({ ...memory, onShared: shared('debuginfo') });
  }

  /**
   * A file that the cache lacks, from the first upstream that has it; `undefined` at once for names that upstreams are
   * not asked for. Never rejects: whoever cannot tell does not have it.
   */
  async find(cache: Cache, name: string): Promise<OfferedFile | undefined> {
    if (cache.upstreams.length === 0) return undefined;
    const key = parseRealisationName(name);
    if (key !== undefined) return await this.#findRealisation(cache, name, key);
    const buildId = parseDebugLinkName(name);
    if (buildId !== undefined) return await this.#findDebugLink(cache, buildId);
    return name.startsWith('log/') ? await this.#findLog(cache, name) : undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all([this.#realisations.settled(), this.#links.settled()]);
    await Promise.all(this.#keeping);
  }

  async #findRealisation(cache: Cache, name: string, key: RealisationKey): Promise<OfferedFile | undefined> {
    return await this.#realisations.find(`${cache.id}/${cache.sourcesKey}/${name}`, async () => {
      const { found, ttl } = await this.#askAll(cache, async (upstream, signal) => {
        const realisation = await upstream.findRealisation(name, key, signal);
        return realisation && { realisation, upstream };
      });
      if (found === undefined) return { found, ttl };
      const { realisation, upstream } = found;
      const body = Buffer.from(formatRealisation(await this.#vouched(cache, upstream, realisation)));
      this.#keep({ cache, name, body, upstream });
      return { found: { body, contentEncoding: undefined }, ttl };
    });
  }

  async #findDebugLink(cache: Cache, buildId: string): Promise<OfferedFile | undefined> {
    const [key] = debugLinkNames(buildId);
    return await this.#links.find(`${cache.id}/${cache.sourcesKey}/${key}`, async () => {
      const { found, ttl } = await this.#askAll(
        cache,
        async (upstream, signal): Promise<DebugLink | undefined> =>
          await upstream.findDebugLink(buildId, signal),
      );
      const body = found && Buffer.from(formatDebugLink(found));
      return { found: body && { body, contentEncoding: undefined }, ttl };
    });
  }

  /** Nothing is remembered: logs are large, and asked for seldom. */
  async #findLog(cache: Cache, name: string): Promise<OfferedFile | undefined> {
    return await this.#logs.run(async () => {
      const signal = deadline(LOG_MS, this.#closing.signal);
      for (const upstream of this.#parts.upstreamsOf(cache)) {
        const log = await upstream.findLog(name, signal).catch(() => undefined);
        if (log !== undefined) return log;
      }
      return undefined;
    });
  }

  async #askAll<T>(cache: Cache, ask: (upstream: Upstream, signal: AbortSignal) => Promise<T | undefined>) {
    const done = new AbortController();
    const signal = deadline(this.#parts.lookupMs, done.signal, this.#closing.signal);
    return await firstAnswer(
      this.#parts.upstreamsOf(cache),
      async (upstream) => await ask(upstream, signal),
    ).finally(() => done.abort());
  }

  /** The cache's own signature is added only where it was told to vouch for that upstream. */
  async #vouched(cache: Cache, { config }: Upstream, realisation: Realisation): Promise<Realisation> {
    if (!config.sign) return realisation;
    const message = realisationFingerprint(realisation);
    const own = (await this.#parts.keys.get(cache.name)).map((key) => signText(key, message));
    return { ...realisation, signatures: [...new Set([...realisation.signatures, ...own])] };
  }

  /** Beside the answer, which does not fail for it. */
  #keep(file: KeptFile): void {
    const keeping = this.#parts.keep(file).catch(this.#parts.onProblem);
    this.#keeping.add(keeping);
    void keeping.finally(() => this.#keeping.delete(keeping));
  }
}
