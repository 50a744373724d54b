// Where a mirror takes paths from: a cache as its client sees it. Narinfos are text, NARs go through a file without a
// name, because the cache that they go to names an upload by the hash of all of it.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathPage } from '../api/slipway-cache-v1.ts';
import { formatBase32 } from '../nix/base32.ts';
import { parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { deadline } from '../util/deadline.ts';
import { messageOf, SlipwayError } from '../util/errors.ts';
import { parseJson } from '../util/parse-json.ts';
import { retry } from '../util/retry.ts';
import { CacheEndpoint, type CacheBody, type CacheTarget } from './cache-endpoint.ts';

/** A transfer that brings nothing for so long is given up. */
const SILENCE_MS = 60_000;

export interface SourcePage {
  readonly infos: readonly NarInfo[];
  readonly next: string | undefined;
}

/** The file of a NAR, as the source has it. */
export interface FetchedFile extends AsyncDisposable {
  /** nix32 of its SHA-256. */
  readonly hash: string;
  readonly body: CacheBody;
}

export class MirrorSource implements Disposable {
  readonly #target: CacheTarget;
  readonly #endpoint: CacheEndpoint;

  constructor(target: CacheTarget) {
    this.#target = target;
    this.#endpoint = new CacheEndpoint(target);
  }

  get url(): string {
    return this.#endpoint.url;
  }

  /** Paths of a Slipway, by hash; `undefined` for a cache of another kind, which cannot say what it holds. */
  async list(after: string | undefined, signal: AbortSignal | undefined): Promise<SourcePage | undefined> {
    const file = `../_api/slipway/v1/caches/${encodeURIComponent(this.#endpoint.name)}/paths`;
    const query = after === undefined ? '' : `?after=${after}`;
    const answer = await this.#endpoint.ask('GET', file + query, { signal });
    if (answer.status === 401 || answer.status === 403) throw this.#endpoint.refusal('GET', file, answer);
    const page = answer.status === 200 ? pathPage.safeParse(parseJson(answer.body)) : undefined;
    if (page?.success !== true) return undefined;
    return { infos: page.data.paths.map(({ narinfo }) => parseNarInfo(narinfo)), next: page.data.next };
  }

  async find(hash: string, signal: AbortSignal | undefined): Promise<NarInfo | undefined> {
    const text = await this.#endpoint.find(`${hash}.narinfo`, signal);
    return text === undefined ? undefined : parseNarInfo(text);
  }

  /** The NAR's file, whole; its URL may lead anywhere that the source says, but its credentials stay with the source. */
  async fetch(info: NarInfo, signal: AbortSignal | undefined): Promise<FetchedFile> {
    const policy = {
      attempts: 4,
      baseMs: 250,
      maxMs: 4_000,
      ...(signal && { signal }),
      retryable: isPassing,
    };
    return await retry(policy, async () => await this.#fetchOnce(info, signal));
  }

  [Symbol.dispose](): void {
    this.#endpoint[Symbol.dispose]();
  }

  async #fetchOnce(info: NarInfo, signal: AbortSignal | undefined): Promise<FetchedFile> {
    const file = await openNameless();
    try {
      const hash = createHash('sha256');
      let length = 0;
      for await (const piece of this.#read(info, signal)) {
        hash.update(piece);
        await file.writeFile(piece); // goes on where it stands
        length += piece.length;
      }
      const open = () =>
        createReadStream('', { fd: file, start: 0, autoClose: false, highWaterMark: 256 * 1024 });
      return {
        hash: formatBase32(hash.digest()),
        body: { type: 'application/x-nix-nar', length, open },
        [Symbol.asyncDispose]: async () => await file.close(),
      };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async *#read(info: NarInfo, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
    const url = new URL(info.url, this.url);
    const own = url.origin === new URL(this.url).origin;
    const { token } = this.#target;
    const quiet = new AbortController();
    const timer = setTimeout(() => quiet.abort(new Error('silent for a minute')), SILENCE_MS);
    try {
      const response = await fetch(url, {
        signal: deadline(24 * 3_600_000, quiet.signal, signal),
        headers: own && token !== undefined ? { authorization: `Bearer ${token}` } : {},
      });
      if (response.status !== 200)
        throw new SlipwayError(
          response.status >= 500 ? 'unavailable' : 'not_found',
          `${this.url} answered ${response.status} for the NAR of ${info.storePath}.`,
        );
      for await (const piece of response.body ?? []) {
        timer.refresh();
        yield piece;
      }
    } catch (error) {
      if (error instanceof SlipwayError || signal?.aborted === true) throw error;
      throw new SlipwayError('unavailable', `The NAR of ${info.storePath} broke off: ${messageOf(error)}`, {
        cause: error,
      });
    } finally {
      clearTimeout(timer);
    }
  }
}

async function openNameless() {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-mirror-'));
  try {
    return await open(join(folder, 'nar'), 'wx+', 0o600);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function isPassing(error: unknown): boolean {
  return error instanceof SlipwayError && error.code === 'unavailable';
}
