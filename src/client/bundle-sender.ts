// Sends bundles, one after another, and what their answers ask for: names once more where the server has forgotten the
// beginning of a NAR, smaller bundles where something on the way lets large ones not through.
import type { BundleAnswer, UploadFailure } from '../api/slipway-cache-v1.ts';
import { ERROR_CODES, SlipwayError, type ErrorCode } from '../util/errors.ts';
import { Bundle, type OutgoingNar } from './bundle.ts';
import type { PushTally } from './push-tally.ts';
import { changedOnDisk } from './read-nar.ts';
import type { SlipwayCache } from './slipway-cache.ts';
import { splitBundle } from './split-bundle.ts';

/** Half of what may be sent: far from every limit, large enough that answers are few. */
const BUNDLE_BYTES = 12 * 1024 * 1024;
/** What may come on top of a bundle that is nearly full: a frame that does not compress, and the places of its chunks. */
const LAST_RECORD = 560 * 1024;
/** Just under nginx's limit when nobody has set one: everything on the way lets so much through. */
const SMALLEST_LIMIT = 1024 * 1024 - 64 * 1024;

export interface BundleSenderParts {
  readonly cache: SlipwayCache;
  readonly tally: PushTally;
}

export class BundleSender {
  /** Store paths that the cache has taken. */
  readonly published = new Set<string>();
  readonly #cache: SlipwayCache;
  readonly #tally: PushTally;
  readonly #signal: AbortSignal;
  /** More than this does not get through. */
  #limit: number;
  #overtaken = false;

  constructor({ cache, tally }: BundleSenderParts, signal: AbortSignal) {
    this.#cache = cache;
    this.#tally = tally;
    this.#signal = signal;
    this.#limit = cache.maxBundle;
  }

  /** A bundle of so many bytes is to be sent. */
  get fullBytes(): number {
    return Math.min(BUNDLE_BYTES, this.#limit - LAST_RECORD);
  }

  /** The cache does not hold any more what it said it did. */
  get isOvertaken(): boolean {
    return this.#overtaken;
  }

  /** Calls must not overlap. Fails with the first refusal of a path; the others of the bundle are published. */
  async send(bundle: Bundle): Promise<void> {
    if (bundle.size > this.#limit) return await this.#sendParts(bundle);
    const answer = await this.#post(bundle);
    if (answer === 'too-large') return await this.#sendParts(bundle);
    if (answer !== undefined) await this.#settle(bundle, answer);
  }

  async #sendParts(bundle: Bundle): Promise<void> {
    for await (const part of splitBundle(bundle, this.fullBytes)) {
      await (part.size < bundle.size ? this.send(part) : this.#sendWhole(part));
      if (this.#overtaken) return;
    }
  }

  /** What cannot be divided gets through or not. */
  async #sendWhole(bundle: Bundle): Promise<void> {
    const answer = await this.#post(bundle);
    if (answer === 'too-large') throw tooLarge(this.#cache.url);
    if (answer !== undefined) await this.#settle(bundle, answer);
  }

  async #settle(bundle: Bundle, answer: BundleAnswer): Promise<void> {
    const lost = new Set(answer.lost);
    const failures: SlipwayError[] = [];
    for (const [n, nar] of bundle.finished.entries()) {
      const failure = answer.paths[n]?.failure;
      if (failure === undefined) this.#publish(nar);
      else if (lost.has(Buffer.from(nar.info.narHash.bytes).toString('hex'))) await this.#sendAgain(nar);
      else failures.push(failureOf(nar, failure));
    }
    if (failures[0] !== undefined) throw failures[0];
  }

  /** The server that has taken the end does not know the beginning; what it needs is durable, so names are enough. */
  async #sendAgain(nar: OutgoingNar): Promise<void> {
    const bundle = Bundle.ofSize(0);
    const again: OutgoingNar = { info: nar.info, chunks: [], left: 0 };
    for (const record of nar.chunks) bundle.chunks(again, record);
    bundle.finish(again);
    const answer = await this.#post(bundle);
    if (answer === 'too-large') throw tooLarge(this.#cache.url);
    const failure = answer?.paths[0]?.failure;
    if (failure !== undefined) throw failureOf(nar, failure);
    if (answer !== undefined) this.#publish(nar);
  }

  /** `undefined` when it was overtaken. */
  async #post(bundle: Bundle): Promise<BundleAnswer | 'too-large' | undefined> {
    const answer = await this.#cache.send(bundle.bytes(), bundle.rawBytes, this.#signal);
    if (answer === 'too-large') {
      if (bundle.size <= SMALLEST_LIMIT) throw tooLarge(this.#cache.url);
      this.#limit = Math.max(SMALLEST_LIMIT, Math.floor(bundle.size / 4));
      return answer;
    }
    if (answer === 'absent') {
      this.#overtaken = true;
      return undefined;
    }
    this.#tally.sentBytes += bundle.size;
    return answer;
  }

  #publish({ info }: OutgoingNar): void {
    this.published.add(info.path);
    this.#tally.pushed(info.path);
  }
}

function tooLarge(url: string): SlipwayError {
  return new SlipwayError('too_large', `Something in front of ${url} lets not even 1 MiB through (413).`, {
    next: 'Raise its limit for the bodies of requests to 32 MiB; nginx calls it client_max_body_size.',
  });
}

function failureOf({ info }: OutgoingNar, { code, message, next }: UploadFailure): SlipwayError {
  if (code === 'nar_hash_mismatch' || code === 'nar_invalid') return changedOnDisk(info);
  const known = code in ERROR_CODES ? (code as ErrorCode) : 'invalid';
  return new SlipwayError(known, message, {
    ...(next !== undefined && { next }),
    facts: { path: info.path },
  });
}
