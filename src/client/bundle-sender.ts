// Sends bundles in order, the next one while the one before is being committed, and what their answers ask for: names once
// more where the server has forgotten the beginning of a NAR, smaller bundles where something on the way lets large ones not
// through.
import type { BundleAnswer, UploadFailure } from '../api/slipway-cache-v1.ts';
import type { Effort } from '../content/frame-codec.ts';
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

/**
 * Where bundles go faster than this, compressing a tenth better takes longer than sending a tenth more: to the cache, and to
 * hosts as near as that. What is not needed at once is compressed well on the server (docs/adr/0022).
 */
const QUICK_BYTES_PER_MS = 20_000;

/** Full bundles differ by a tenth. */
const MUCH_LARGER = 1.25;

export interface BundleSenderParts {
  readonly cache: SlipwayCache;
  readonly tally: PushTally;
}

/** How a bundle goes. */
interface Way {
  /** The bundle before, which is not done with. */
  readonly ahead?: Promise<void>;
  readonly onSent?: () => void;
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
  #effort: Effort = 'quick';
  /** Bundles without an answer, oldest first. */
  readonly #flights: Promise<void>[] = [];
  /** Until the last of them is on its way. */
  #out: Promise<void> = Promise.resolve();
  #lastAnswer = 0;
  /** Bundles must not overlap: something on the way sends them to different servers. */
  #inTurn = false;
  /** Size of the largest bundle that got through. */
  #passed = 0;

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

  /** How much work smaller bundles are worth, as the last one went. */
  get effort(): Effort {
    return this.#effort;
  }

  /** The cache does not hold any more what it said it did. */
  get isOvertaken(): boolean {
    return this.#overtaken;
  }

  /**
   * Resolves when the bundle may go out; calls must not overlap. What is returned resolves when it is answered and fails with
   * the first refusal of a path; the others of the bundle are published. Fails as an earlier bundle has.
   */
  async begin(bundle: Bundle): Promise<{ readonly answered: Promise<void> }> {
    await this.#out;
    // What is much larger than all that got through so far may come back, and then nothing may be on its way behind it.
    const mayOverlap = bundle.size <= MUCH_LARGER * this.#passed && !this.#inTurn;
    const atOnce = mayOverlap ? this.#cache.bundlesAtOnce : 1;
    while (this.#flights.length >= atOnce) await this.#flights[0];
    const out = Promise.withResolvers<void>();
    this.#out = out.promise;
    const ahead = this.#flights.at(-1);
    const answered = this.#send(bundle, { ...(ahead && { ahead }), onSent: out.resolve });
    this.#flights.push(answered);
    const land = (): void => {
      out.resolve();
      void this.#flights.splice(this.#flights.indexOf(answered), 1);
    };
    answered.then(land, land);
    return { answered };
  }

  async #send(bundle: Bundle, { ahead, onSent }: Way): Promise<void> {
    let answer = bundle.size > this.#limit ? 'too-large' : await this.#post(bundle, onSent);
    await ahead?.catch(() => undefined); // whoever waits for that one hears of it
    if (ahead !== undefined && isRefusal(bundle, answer)) {
      // Perhaps another replica took the bundle ahead, and this one did not know what it brought.
      this.#inTurn = true;
      answer = await this.#post(bundle);
    }
    await this.#heed(bundle, answer);
  }

  async #heed(bundle: Bundle, answer: BundleAnswer | 'absent' | 'too-large'): Promise<void> {
    if (answer === 'absent') this.#overtaken = true;
    else if (answer === 'too-large') await this.#sendParts(bundle);
    else await this.#settle(bundle, answer);
  }

  async #sendParts(bundle: Bundle): Promise<void> {
    for await (const part of splitBundle(bundle, this.fullBytes)) {
      await (part.size < bundle.size ? this.#send(part, {}) : this.#sendWhole(part));
      if (this.#overtaken) return;
    }
  }

  /** What cannot be divided gets through or not. */
  async #sendWhole(bundle: Bundle): Promise<void> {
    const answer = await this.#post(bundle);
    if (answer === 'too-large') throw tooLarge(this.#cache.url);
    await this.#heed(bundle, answer);
  }

  async #settle(bundle: Bundle, answer: BundleAnswer): Promise<void> {
    const isLost = lostOf(answer);
    const failures: SlipwayError[] = [];
    for (const [n, nar] of bundle.finished.entries()) {
      const failure = answer.paths[n]?.failure;
      if (failure === undefined) this.#publish(nar);
      else if (isLost(nar)) await this.#sendAgain(nar);
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
    if (answer === 'absent') {
      this.#overtaken = true;
      return;
    }
    const failure = answer.paths[0]?.failure;
    if (failure !== undefined) throw failureOf(nar, failure);
    this.#publish(nar);
  }

  async #post(bundle: Bundle, onSent?: () => void): Promise<BundleAnswer | 'absent' | 'too-large'> {
    const { size, rawBytes } = bundle;
    const started = performance.now();
    const answer = await this.#cache.send({ bytes: bundle.bytes(), rawBytes, onSent }, this.#signal);
    this.#notePace(size, started);
    if (answer === 'too-large') {
      if (size <= SMALLEST_LIMIT) throw tooLarge(this.#cache.url);
      this.#limit = Math.max(SMALLEST_LIMIT, Math.floor(size / 4));
      return answer;
    }
    if (answer === 'absent') return answer;
    this.#passed = Math.max(this.#passed, size);
    this.#tally.sentBytes += size;
    return answer;
  }

  /** What two bundles were on their way together counts for the first of them. */
  #notePace(size: number, started: number): void {
    const now = performance.now();
    const rate = size / (now - Math.max(started, this.#lastAnswer));
    this.#lastAnswer = now;
    this.#effort = rate < QUICK_BYTES_PER_MS ? 'usual' : 'quick';
  }

  #publish({ info }: OutgoingNar): void {
    this.published.add(info.path);
    this.#tally.pushed(info.path);
  }
}

/** Whether names alone would not help. */
function isRefusal(bundle: Bundle, answer: BundleAnswer | 'absent' | 'too-large'): boolean {
  if (typeof answer === 'string') return answer === 'absent';
  const isLost = lostOf(answer);
  return bundle.finished.some((nar, n) => answer.paths[n]?.failure !== undefined && !isLost(nar));
}

function lostOf(answer: BundleAnswer): (nar: OutgoingNar) => boolean {
  const lost = new Set(answer.lost);
  return ({ info }) => lost.has(Buffer.from(info.narHash.bytes).toString('hex'));
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
