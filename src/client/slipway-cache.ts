// A cache that speaks Slipway's own upload protocol, as its client sees it (src/api/slipway-cache-v1.ts).
import { randomUUID } from 'node:crypto';
import {
  bundleAnswer,
  missingPathsAnswer,
  PUSH_HEADER,
  UPLOAD_PROTOCOL,
  uploadRefusal,
  uploadTerms,
  type BundleAnswer,
  type UploadTerms,
} from '../api/slipway-cache-v1.ts';
import { CHUNKER_VERSION } from '../content/chunker.ts';
import { NORMALISER_VERSION } from '../content/normaliser.ts';
import { DEFAULT_STORE_DIR } from '../nix/store-path.ts';
import { SlipwayError } from '../util/errors.ts';
import { parseJson } from '../util/parse-json.ts';
import type { CacheAnswer, CacheEndpoint } from './cache-endpoint.ts';

/** The server restores what a bundle names before it answers: at 20 MB/s, on top of a minute. */
const RESTORED_BYTES_PER_MS = 20_000;

export interface SlipwayCache {
  readonly url: string;
  /** Most bytes of a bundle. */
  readonly maxBundle: number;
  /** Most bundles that may wait for their answers at once. */
  readonly bundlesAtOnce: number;
  /** Which of the store paths' hashes the cache lacks. Asking counts as use of the others. */
  findMissing(hashes: readonly string[], signal?: AbortSignal): Promise<Set<string>>;
  /** For each chunk, whether it has to be sent. */
  findMissingChunks(hashes: readonly Buffer[], signal?: AbortSignal): Promise<boolean[]>;
  /**
   * `rawBytes`: what its chunks decode to. `onSent`: called when it is on its way. `absent`: the cache does not hold what the bundle counted on. `too-large`: what
   * stands in front of the cache lets no body of that size through.
   */
  send(bundle: OutgoingBundle, signal?: AbortSignal): Promise<BundleAnswer | 'absent' | 'too-large'>;
}

export interface OutgoingBundle {
  readonly bytes: Buffer;
  readonly rawBytes: number;
  readonly onSent?: (() => void) | undefined;
}

/** `undefined` where the server, or this version of it, cannot be talked to like that. Without a grant this fails. */
export async function findSlipwayCache(
  endpoint: CacheEndpoint,
  signal: AbortSignal | undefined,
): Promise<SlipwayCache | undefined> {
  const answer = await endpoint.ask('GET', baseOf(endpoint), { signal });
  if (answer.status === 401 || answer.status === 403) throw endpoint.refusal('GET', '', answer);
  if (answer.status !== 200) {
    const known = uploadRefusal.safeParse(parseJson(answer.body));
    if (known.success && answer.status === 404) throw endpoint.refusal('GET', '', answer);
    return undefined;
  }
  const terms = uploadTerms.safeParse(parseJson(answer.body));
  if (!terms.success || terms.data.protocol !== UPLOAD_PROTOCOL) return undefined;
  const { chunker, normaliser, storeDir } = terms.data;
  if (chunker !== CHUNKER_VERSION || normaliser !== NORMALISER_VERSION) return undefined;
  checkStoreDir(endpoint, storeDir);
  return new SlipwayEndpoint(endpoint, terms.data);
}

class SlipwayEndpoint implements SlipwayCache {
  readonly maxBundle: number;
  readonly bundlesAtOnce: number;
  /** Tells the server which bundles belong together. */
  readonly #push = randomUUID();
  /** The first large body waits for a refusal, which could otherwise be lost in a broken pipe. */
  #asksFirst = true;
  readonly #endpoint: CacheEndpoint;

  constructor(endpoint: CacheEndpoint, { maxBundle, bundlesAtOnce = 1 }: UploadTerms) {
    this.#endpoint = endpoint;
    this.maxBundle = maxBundle;
    this.bundlesAtOnce = bundlesAtOnce;
  }

  get url(): string {
    return this.#endpoint.url;
  }

  async findMissing(hashes: readonly string[], signal?: AbortSignal): Promise<Set<string>> {
    const question = Buffer.from(JSON.stringify({ paths: hashes }));
    const { answer, file } = await this.#post('missing-paths', question, { signal });
    const found = missingPathsAnswer.safeParse(parseJson(answer.body));
    if (answer.status === 200 && found.success) return new Set(found.data.missing);
    throw this.#endpoint.refusal('POST', file, answer);
  }

  async findMissingChunks(hashes: readonly Buffer[], signal?: AbortSignal): Promise<boolean[]> {
    const { answer, file } = await this.#post('missing-chunks', Buffer.concat(hashes), { signal });
    if (answer.status !== 200 || answer.body.length !== hashes.length)
      throw this.#endpoint.refusal('POST', file, answer);
    return hashes.map((_, n) => answer.body.charCodeAt(n) === 1);
  }

  async send(
    { bytes, rawBytes, onSent }: OutgoingBundle,
    signal?: AbortSignal,
  ): Promise<BundleAnswer | 'absent' | 'too-large'> {
    const timeoutMs = 60_000 + this.bundlesAtOnce * (rawBytes / RESTORED_BYTES_PER_MS);
    const options = { signal, timeoutMs, askFirst: this.#asksFirst, onSent };
    const { answer, file } = await this.#post('bundles', bytes, options);
    const json = parseJson(answer.body);
    const told = bundleAnswer.safeParse(json);
    this.#asksFirst &&= !told.success;
    if (told.success) return told.data;
    const refusal = uploadRefusal.safeParse(json);
    if (refusal.success && refusal.data.absent === true) return 'absent';
    if (!refusal.success && answer.status === 413) return 'too-large';
    throw this.#endpoint.refusal('POST', file, answer);
  }

  async #post(
    action: string,
    body: Buffer,
    { askFirst = false, onSent, ...limits }: PostOptions,
  ): Promise<{ readonly answer: CacheAnswer; readonly file: string }> {
    const file = `${baseOf(this.#endpoint)}/${action}`;
    const type = action === 'missing-paths' ? 'application/json' : 'application/octet-stream';
    const content = { type, length: body.length, askFirst, open: () => body, ...(onSent && { onSent }) };
    const headers = action === 'bundles' ? { [PUSH_HEADER]: this.#push } : {};
    return { answer: await this.#endpoint.ask('POST', file, { content, headers, ...limits }), file };
  }
}

interface PostOptions {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
  readonly askFirst?: boolean;
  readonly onSent?: (() => void) | undefined;
}

/** Relative to the cache's URL, so that a prefix in front of all caches stays. */
function baseOf(endpoint: CacheEndpoint): string {
  return `../_api/slipway/v1/caches/${encodeURIComponent(endpoint.name)}`;
}

function checkStoreDir(endpoint: CacheEndpoint, storeDir: string): void {
  if (storeDir === DEFAULT_STORE_DIR) return;
  throw new SlipwayError('invalid', `The cache ${endpoint.url} is for another store: ${storeDir}.`, {
    next: `Push to a cache for ${DEFAULT_STORE_DIR}.`,
  });
}
