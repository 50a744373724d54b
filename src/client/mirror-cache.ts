// Brings what one cache holds into another one: a page of the source's paths at a time, what the other lacks of them and
// of all that they need, references before what refers to them. Nothing is remembered between runs: the other cache says
// what it has, so a run that was killed goes on where complete paths end, and a run with nothing new costs a question a page.
import { fingerprint, formatNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { parseHash } from '../nix/hash.ts';
import { verifyText, type PublicKey } from '../nix/signature.ts';
import { storePathHash } from '../nix/store-path.ts';
import { Semaphore, mapBounded } from '../util/concurrency.ts';
import { asSlipwayError, SlipwayError } from '../util/errors.ts';
import { CacheEndpoint, type CacheTarget } from './cache-endpoint.ts';
import { MirrorSource } from './mirror-source.ts';

export interface MirrorOptions {
  readonly source: CacheTarget;
  readonly destination: CacheTarget;
  /** Hash parts; their closures are mirrored. Without: all that the source, a Slipway, holds. */
  readonly hashes?: readonly string[];
  /** When given, only what one of these keys has signed. */
  readonly keys?: readonly PublicKey[];
  /** Transfers at a time. */
  readonly jobs: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: MirrorProgress) => void;
}

export interface MirrorProgress {
  /** Paths that were looked at. */
  readonly seen: number;
  readonly copied: number;
  readonly copiedBytes: number;
  readonly failed: number;
}

export interface MirrorFailure {
  readonly path: string;
  readonly code: string;
  readonly message: string;
}

export interface MirrorResult extends MirrorProgress {
  /** At most a hundred of them. */
  readonly failures: readonly MirrorFailure[];
  readonly ms: number;
}

const HASHES_A_QUESTION = 1000;
const LOOKUPS = 16;
const MOST_FAILURES = 100;
const EXTENSIONS: Readonly<Record<string, string>> = { none: '', zstd: '.zst', xz: '.xz' };

/** What fails alone (a conflict, a damaged NAR) is told at the end; what fails for all (no answer, no grant) rejects. */
export async function mirrorCache(options: MirrorOptions): Promise<MirrorResult> {
  const started = performance.now();
  using source = new MirrorSource(options.source);
  using destination = new CacheEndpoint(options.destination);
  const mirror = new Mirror(source, destination, options);
  if (options.hashes !== undefined) await mirror.bring(await mirror.lookUp(options.hashes));
  else await mirrorAll(mirror, source, options.signal);
  return { ...mirror.progress, failures: mirror.failures, ms: performance.now() - started };
}

async function mirrorAll(
  mirror: Mirror,
  source: MirrorSource,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (let after: string | undefined, more = true; more; more = after !== undefined) {
    const page = await source.list(after, signal);
    if (page === undefined)
      throw new SlipwayError('invalid', `${source.url} cannot say what it holds: it is no Slipway cache.`, {
        next: 'Name the paths whose closures are to be mirrored.',
      });
    await mirror.bring(page.infos);
    after = page.next;
  }
}

class Mirror {
  readonly failures: MirrorFailure[] = [];
  readonly #source: MirrorSource;
  readonly #destination: CacheEndpoint;
  readonly #options: MirrorOptions;
  readonly #slots: Semaphore;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  /** What is known to be there, or to have failed: 100 bytes a path. */
  readonly #settled = new Map<string, boolean>();
  #copied = 0;
  #copiedBytes = 0;
  #failed = 0;

  constructor(source: MirrorSource, destination: CacheEndpoint, options: MirrorOptions) {
    this.#source = source;
    this.#destination = destination;
    this.#options = options;
    this.#slots = new Semaphore(options.jobs);
    const { signal } = options;
    this.#signal = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
  }

  get progress(): MirrorProgress {
    return {
      seen: this.#settled.size,
      copied: this.#copied,
      copiedBytes: this.#copiedBytes,
      failed: this.#failed,
    };
  }

  /** Brings these paths, and what the destination lacks of all that they need. */
  async bring(infos: readonly NarInfo[]): Promise<void> {
    const missing = new Map<string, NarInfo>();
    for (let frontier = infos; frontier.length > 0;) {
      const lacking = await this.#lacking(frontier);
      for (const info of lacking) missing.set(storePathHash(info.storePath), info);
      const references = new Set(lacking.flatMap((info) => info.references.map(storePathHash)));
      const unknown = [...references].filter((hash) => !missing.has(hash) && !this.#settled.has(hash));
      frontier = await this.lookUp(unknown);
    }
    const begun = new Map<string, Promise<void>>();
    const begin = async (hash: string): Promise<void> => {
      const info = missing.get(hash);
      if (info === undefined) return;
      const known = begun.get(hash) ?? this.#copyAfter(info, begin);
      begun.set(hash, known);
      await known;
    };
    const all = await Promise.allSettled([...missing.keys()].map(begin));
    if (this.#stop.signal.aborted) throw asSlipwayError(this.#stop.signal.reason);
    const failure = all.find((one) => one.status === 'rejected');
    if (failure) throw failure.reason;
    this.#options.onProgress?.(this.progress);
  }

  /** Narinfos of the source; what it does not have is a failure, unless the destination has it. */
  async lookUp(hashes: readonly string[]): Promise<NarInfo[]> {
    const missing = await this.#ask(hashes);
    for (const hash of hashes) if (!missing.has(hash)) this.#settled.set(hash, true);
    const found = await mapBounded([...missing], LOOKUPS, async (hash) => {
      const info = await this.#source.find(hash, this.#options.signal);
      if (info === undefined)
        this.#fail(hash, hash, new SlipwayError('not_found', `${this.#source.url} does not have it.`));
      return info;
    });
    return found.filter((info) => info !== undefined);
  }

  async #lacking(infos: readonly NarInfo[]): Promise<NarInfo[]> {
    const fresh = infos.filter(({ storePath }) => !this.#settled.has(storePathHash(storePath)));
    const missing = await this.#ask(fresh.map(({ storePath }) => storePathHash(storePath)));
    for (const { storePath } of fresh) {
      const hash = storePathHash(storePath);
      if (!missing.has(hash)) this.#settled.set(hash, true);
    }
    return fresh.filter(({ storePath }) => missing.has(storePathHash(storePath)));
  }

  async #ask(hashes: readonly string[]): Promise<Set<string>> {
    const missing = new Set<string>();
    const { signal } = this.#options;
    for (let from = 0; from < hashes.length; from += HASHES_A_QUESTION) {
      const batch = hashes.slice(from, from + HASHES_A_QUESTION);
      const found = await this.#destination.findMissing(batch, signal);
      if (found) for (const hash of found) missing.add(hash);
      else
        await mapBounded(batch, LOOKUPS, async (hash) => {
          if (!(await this.#destination.has(`${hash}.narinfo`, signal))) missing.add(hash);
        });
    }
    return missing;
  }

  async #copyAfter(info: NarInfo, begin: (hash: string) => Promise<void>): Promise<void> {
    const hash = storePathHash(info.storePath);
    const needed = info.references.map(storePathHash).filter((one) => one !== hash);
    await Promise.all(needed.map(begin));
    try {
      const lost = needed.find((one) => this.#settled.get(one) === false);
      if (lost !== undefined)
        throw new SlipwayError('not_found', `What it needs could not be mirrored: ${lost}.`);
      await this.#slots.run(async () => await this.#copy(info));
      this.#settled.set(hash, true);
      this.#copied++;
      this.#options.onProgress?.(this.progress);
    } catch (error) {
      this.#fail(hash, info.storePath, error);
    }
  }

  async #copy(info: NarInfo): Promise<void> {
    const { keys } = this.#options;
    const signal = this.#signal;
    signal.throwIfAborted();
    const message = fingerprint(info);
    if (keys !== undefined && !info.signatures.some((one) => verifyText(keys, message, one)))
      throw new SlipwayError('signature_invalid', 'None of the given keys has signed it.');
    const extension = EXTENSIONS[info.compression];
    if (extension === undefined)
      throw new SlipwayError('invalid', `Its NAR is compressed with ${info.compression}.`);
    await using file = await this.#source.fetch(info, signal);
    const url = `nar/${file.hash}.nar${extension}`;
    await this.#destination.put(url, file.body, signal);
    const fileHash = parseHash(`sha256:${file.hash}`);
    const text = Buffer.from(formatNarInfo({ ...info, url, fileHash, fileSize: file.body.length }));
    const narinfo = { type: 'text/x-nix-narinfo', length: text.length, open: () => text };
    await this.#destination.put(`${storePathHash(info.storePath)}.narinfo`, narinfo, signal);
    this.#copiedBytes += file.body.length;
  }

  /** What would fail for every other path as well is thrown. */
  #fail(hash: string, path: string, thrown: unknown): void {
    const error = asSlipwayError(thrown);
    const general = ['unavailable', 'timeout', 'unauthorized', 'forbidden', 'cancelled', 'internal'];
    if (general.includes(error.code)) {
      this.#stop.abort(error); // the others need not find out by themselves
      throw error;
    }
    this.#settled.set(hash, false);
    this.#failed++;
    if (this.failures.length < MOST_FAILURES)
      this.failures.push({ path, code: error.code, message: error.message });
  }
}
