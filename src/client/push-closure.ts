// Pushes closures to a cache: asks what is missing, then sends it by Slipway's own protocol where the cache speaks it, by
// Nix's otherwise.
import { readClosure, type PathInfo } from '../effects/path-info.ts';
import { DEFAULT_STORE_DIR, storePathHash, type StorePath } from '../nix/store-path.ts';
import { mapBounded } from '../util/concurrency.ts';
import { SlipwayError } from '../util/errors.ts';
import { CacheEndpoint, type CacheTarget } from './cache-endpoint.ts';
import { pushChunks } from './push-chunks.ts';
import { narInfoFile, NarPush } from './push-nars.ts';
import { PushTally, type PushProgress } from './push-tally.ts';
import { findSlipwayCache, type SlipwayCache } from './slipway-cache.ts';

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

export interface PushResult {
  readonly pushed: number;
  readonly present: number;
  readonly sentBytes: number;
  readonly narBytes: number;
  readonly ms: number;
}

const PROBES = 16;
const PATHS_A_QUESTION = 10_000;

/** Pushes the closure of `paths`. A failed upload rejects; what was pushed before stays and is found next time. */
export async function pushClosure(options: PushOptions): Promise<PushResult> {
  const started = performance.now();
  const { signal } = options;
  using endpoint = new CacheEndpoint(options.target);
  const slipway = await findSlipwayCache(endpoint, signal);
  if (slipway === undefined) await checkCache(endpoint, signal);
  const closure = await readClosure(options.paths, {
    ...(options.store && { store: options.store.url }),
    ...(options.env && { env: options.env }),
    ...(signal && { signal }),
  });
  const missing = await findMissing({ endpoint, slipway, closure, signal });
  const present = closure.length - missing.length;
  const narBytes = missing.reduce((sum, info) => sum + info.narSize, 0);
  const tally = new PushTally({ total: closure.length, present, narBytes }, options.onProgress);
  tally.report();
  const root = options.store?.root ?? '';
  if (slipway !== undefined) await pushChunks({ cache: slipway, tally, root, signal }, missing);
  else await new NarPush({ endpoint, tally, root, jobs: options.jobs ?? 4, signal }, missing).run();
  const ms = performance.now() - started;
  return { pushed: missing.length, present, sentBytes: tally.sentBytes, narBytes, ms };
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

interface Question {
  readonly endpoint: CacheEndpoint;
  readonly slipway: SlipwayCache | undefined;
  readonly closure: readonly PathInfo[];
  readonly signal: AbortSignal | undefined;
}

async function findMissing({ endpoint, slipway, closure, signal }: Question): Promise<PathInfo[]> {
  const missing = new Set<string>();
  for (let from = 0; from < closure.length; from += PATHS_A_QUESTION) {
    const hashes = closure.slice(from, from + PATHS_A_QUESTION).map((info) => storePathHash(info.path));
    const found = await (slipway ?? endpoint).findMissing(hashes, signal);
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
