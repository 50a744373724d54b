// Pushes closures to a cache over Nix's own HTTP protocol: what is missing, references before what refers to them.
import { readClosure, type PathInfo } from '../effects/path-info.ts';
import { formatHashBytes } from '../nix/hash.ts';
import { formatNarInfo } from '../nix/narinfo.ts';
import { DEFAULT_STORE_DIR, storePathHash, type StorePath } from '../nix/store-path.ts';
import { mapBounded, Semaphore } from '../util/concurrency.ts';
import { SlipwayError } from '../util/errors.ts';
import { CacheEndpoint, type CacheTarget } from './cache-endpoint.ts';
import { compressNar } from './compress-nar.ts';

export interface PushOptions {
  readonly target: CacheTarget;
  readonly paths: readonly StorePath[];
  /** Uploads at a time. Default 4. */
  readonly jobs?: number;
  /** Where the store's paths really lie, for stores below another root; default: the paths themselves. */
  readonly store?: { readonly url: string; readonly root: string };
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: PushProgress) => void;
}

export interface PushProgress {
  readonly total: number;
  readonly present: number;
  readonly pushed: number;
  readonly sentBytes: number;
  /** The path that was just finished. */
  readonly path?: StorePath;
}

export interface PushResult {
  readonly pushed: number;
  readonly present: number;
  readonly sentBytes: number;
  readonly narBytes: number;
  readonly ms: number;
}

const PROBES = 16;
const PATHS_A_QUESTION = 1000;

/** Pushes the closure of `paths`. A failed upload rejects; what was pushed before stays and is found next time. */
export async function pushClosure(options: PushOptions): Promise<PushResult> {
  const started = performance.now();
  using endpoint = new CacheEndpoint(options.target);
  await checkCache(endpoint, options.signal);
  const closure = await readClosure(options.paths, {
    ...(options.store && { store: options.store.url }),
    ...(options.env && { env: options.env }),
    ...(options.signal && { signal: options.signal }),
  });
  const missing = await findMissing(endpoint, closure, options.signal);
  const push = new Push(endpoint, options, closure.length, missing);
  await push.run();
  return {
    pushed: missing.length,
    present: closure.length - missing.length,
    sentBytes: push.sentBytes,
    narBytes: missing.reduce((sum, info) => sum + info.narSize, 0),
    ms: performance.now() - started,
  };
}

/** One small request that tells a wrong URL or token before anything is compressed. */
async function checkCache(endpoint: CacheEndpoint, signal: AbortSignal | undefined): Promise<void> {
  const text = await endpoint.find('nix-cache-info', signal);
  if (text === undefined)
    throw new SlipwayError('not_found', `There is no cache at ${endpoint.url}`, {
      next: 'Check the name of the cache in the URL.',
    });
  const storeDir = /^StoreDir: *(\S+)/m.exec(text)?.[1] ?? DEFAULT_STORE_DIR;
  if (storeDir === DEFAULT_STORE_DIR) return;
  throw new SlipwayError('invalid', `The cache ${endpoint.url} is for another store: ${storeDir}.`, {
    next: `Push to a cache for ${DEFAULT_STORE_DIR}.`,
  });
}

async function findMissing(
  endpoint: CacheEndpoint,
  closure: readonly PathInfo[],
  signal: AbortSignal | undefined,
): Promise<PathInfo[]> {
  const missing = new Set<string>();
  for (let from = 0; from < closure.length; from += PATHS_A_QUESTION) {
    const hashes = closure.slice(from, from + PATHS_A_QUESTION).map((info) => storePathHash(info.path));
    const found = await endpoint.findMissing(hashes, signal);
    if (found === undefined) return await findMissingOneByOne(endpoint, closure, signal);
    for (const hash of found) missing.add(hash);
  }
  return closure.filter((info) => missing.has(storePathHash(info.path)));
}

/** For caches that only speak Nix's protocol. */
async function findMissingOneByOne(
  endpoint: CacheEndpoint,
  closure: readonly PathInfo[],
  signal: AbortSignal | undefined,
): Promise<PathInfo[]> {
  const present = await mapBounded(closure, PROBES, (info) => endpoint.has(narInfoFile(info.path), signal));
  return closure.filter((_, i) => present[i] !== true);
}

class Push {
  sentBytes = 0;
  readonly #endpoint: CacheEndpoint;
  readonly #options: PushOptions;
  readonly #total: number;
  readonly #missing: ReadonlyMap<StorePath, PathInfo>;
  readonly #begun = new Map<StorePath, Promise<void>>();
  readonly #slots: Semaphore;
  readonly #failure = new AbortController();
  readonly #signal: AbortSignal;
  #pushed = 0;

  constructor(endpoint: CacheEndpoint, options: PushOptions, total: number, missing: readonly PathInfo[]) {
    this.#endpoint = endpoint;
    this.#options = options;
    this.#total = total;
    this.#missing = new Map(missing.map((info) => [info.path, info]));
    this.#slots = new Semaphore(options.jobs ?? 4);
    const own = this.#failure.signal;
    this.#signal = options.signal ? AbortSignal.any([options.signal, own]) : own;
  }

  async run(): Promise<void> {
    this.#report();
    const uploads = [...this.#missing.values()].map((info) => this.#begin(info));
    try {
      await Promise.all(uploads);
    } catch (error) {
      this.#failure.abort();
      await Promise.allSettled(uploads);
      throw error;
    }
  }

  /** Uploads a path once, after its references: nothing in the cache ever refers to what is not there. */
  #begin(info: PathInfo): Promise<void> {
    const known = this.#begun.get(info.path);
    if (known) return known;
    const upload = this.#afterReferences(info);
    this.#begun.set(info.path, upload);
    return upload;
  }

  async #afterReferences(info: PathInfo): Promise<void> {
    const references = info.references.filter((reference) => reference !== info.path);
    await Promise.all(
      references.map(async (reference) => {
        const needed = this.#missing.get(reference);
        if (needed) await this.#begin(needed);
      }),
    );
    await this.#slots.run(() => this.#upload(info));
  }

  async #upload(info: PathInfo): Promise<void> {
    this.#signal.throwIfAborted();
    const realPath = `${this.#options.store?.root ?? ''}${info.path}`;
    await using nar = await compressNar(info, realPath, this.#signal);
    const url = `nar/${formatHashBytes(nar.fileHash.bytes, 'nix32')}.nar.zst`;
    const body = { type: 'application/x-nix-nar', length: nar.fileSize, open: () => nar.open() };
    await this.#endpoint.put(url, body, this.#signal);
    const text = Buffer.from(
      formatNarInfo({
        ...info,
        storePath: info.path,
        url,
        compression: 'zstd',
        fileHash: nar.fileHash,
        fileSize: nar.fileSize,
      }),
    );
    const narInfo = { type: 'text/x-nix-narinfo', length: text.length, open: () => text };
    await this.#endpoint.put(narInfoFile(info.path), narInfo, this.#signal);
    this.sentBytes += nar.fileSize;
    this.#pushed++;
    this.#report(info.path);
  }

  #report(path?: StorePath): void {
    this.#options.onProgress?.({
      total: this.#total,
      present: this.#total - this.#missing.size,
      pushed: this.#pushed,
      sentBytes: this.sentBytes,
      ...(path && { path }),
    });
  }
}

function narInfoFile(path: StorePath): string {
  return `${storePathHash(path)}.narinfo`;
}
