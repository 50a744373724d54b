// One upstream: any binary cache over HTTP whose signatures we were told to trust. Its word counts only when one of the
// configured keys has signed it; what it sends counts only when it has the hash that was signed.
import type { IncomingMessage } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import type { UpstreamConfig } from '../../api/source-config.ts';
import { fingerprint, MAX_NARINFO_BYTES, parseNarInfo, type NarInfo } from '../../nix/narinfo.ts';
import { parsePublicKey, verifyText, type PublicKey } from '../../nix/signature.ts';
import { storePathHash } from '../../nix/store-path.ts';
import { asSlipwayError, isCode, messageOf, SlipwayError } from '../../util/errors.ts';
import {
  afterFailure,
  afterSuccess,
  breakerPosition,
  CLOSED_BREAKER,
  type BreakerState,
} from './circuit-breaker.ts';
import { readUpstreamText, unavailable, UpstreamClient } from './upstream-client.ts';
import type { UpstreamMetrics } from './upstream-metrics.ts';
import { readableCompression } from './upstream-compression.ts';

const NARINFO_MS = 60_000; // the caller's signal comes first
const NAR_HEADERS_MS = 30_000;
const PROBE_MS = 5_000;
/** A transfer that breaks is taken up where it broke, so often. */
const TRANSFERS = 4;
const RESUME_PAUSE_MS = 250;
const REPORT_EVERY_MS = 60_000;
const ABSENT = new Set([403, 404, 410]); // S3 without the right to list says 403 for what is not there

/** They are held in memory on their way. */
const MAX_LOG_BYTES = 16 * 1024 * 1024;
const LOG_HEADERS_MS = 10_000;

export interface OfferedLog {
  readonly body: Buffer;
  readonly contentEncoding: string | undefined;
}

export interface UpstreamParts {
  readonly metrics: UpstreamMetrics;
  readonly authorize: () => Promise<string | undefined>;
  /** Hears, once a minute at most, what is wrong with the upstream. */
  readonly onProblem: (error: unknown) => void;
}

export class Upstream implements Disposable {
  /** For people and metrics: the URL without its scheme. */
  readonly name: string;
  readonly config: UpstreamConfig;
  readonly #parts: UpstreamParts;
  readonly #client: UpstreamClient;
  readonly #keys: readonly PublicKey[];
  #breaker = CLOSED_BREAKER;
  #probing = false;
  #reportedAt = -Infinity;

  constructor(config: UpstreamConfig, parts: UpstreamParts) {
    this.config = config;
    this.name = upstreamName(config);
    this.#parts = parts;
    this.#client = new UpstreamClient(config.url, parts.authorize);
    this.#keys = config.keys.map(parsePublicKey);
  }

  get breaker(): BreakerState {
    return this.#breaker;
  }

  /**
   * The narinfo as the upstream has it, its signature and path checked. `undefined` when it does not have the path.
   * Rejects when it cannot be asked, or when what it says is not to be believed.
   */
  async findNarInfo(hash: string, storeDir: string, signal: AbortSignal): Promise<NarInfo | undefined> {
    if (!this.#mayAsk()) {
      this.#parts.metrics.asked(this.name, 'narinfo', 'skipped');
      throw new SlipwayError('unavailable', `The upstream ${this.name} is left alone after failures.`);
    }
    const started = performance.now();
    const count = (outcome: 'hit' | 'miss' | 'error' | 'refused'): void =>
      this.#parts.metrics.asked(this.name, 'narinfo', outcome, performance.now() - started);
    const text = await this.#fetchNarInfo(hash, signal).catch((error: unknown) => {
      if (!wasGivenUp(signal)) count('error');
      throw error;
    });
    try {
      const info = text === undefined ? undefined : this.#verified(text, hash, storeDir);
      count(info === undefined ? 'miss' : 'hit');
      return info;
    } catch (error) {
      count('refused');
      this.#report(error);
      throw error;
    }
  }

  /** A build log as the upstream has it. Nobody signs logs: they are for people. Rejects when it cannot be asked. */
  async findLog(name: string, signal: AbortSignal): Promise<OfferedLog | undefined> {
    if (!this.#mayAsk()) return undefined;
    const response = await this.#client.get(name, { signal, headersMs: LOG_HEADERS_MS });
    if (response.statusCode !== 200) {
      response.destroy();
      return undefined;
    }
    const body = await readUpstreamText(response, MAX_LOG_BYTES);
    this.#parts.metrics.received(this.name, body.length);
    return { body, contentEncoding: response.headers['content-encoding'] };
  }

  /** The file that the narinfo names, as it is sent; taken up where it breaks. Not there any more: `not_found`. */
  async *readNar(info: NarInfo, signal: AbortSignal): AsyncIterable<Buffer> {
    const most = info.narSize + info.narSize / 64 + 1024 * 1024; // compression may grow what is random, not by much
    for (let at = 0, transfer = 1; ; transfer++)
      try {
        for await (const piece of this.#readFrom(info.url, at, signal)) {
          at += piece.length;
          if (at > most)
            throw new SlipwayError('too_large', `${info.storePath} is larger than its narinfo says.`);
          this.#parts.metrics.received(this.name, piece.length);
          yield piece;
        }
        return;
      } catch (error) {
        if (transfer === TRANSFERS || !isCode(error, 'unavailable') || signal.aborted) throw error;
        await wait(RESUME_PAUSE_MS * 2 ** transfer, undefined, { signal });
      }
  }

  /** To be called with how fetching a NAR ended. */
  noteNar(failure: unknown, ms: number): void {
    const error = failure === undefined ? undefined : asSlipwayError(failure);
    if (error === undefined) this.#parts.metrics.asked(this.name, 'nar', 'hit', ms);
    else if (error.code === 'cancelled') return;
    else if (error.code === 'not_found') this.#parts.metrics.asked(this.name, 'nar', 'miss', ms);
    else this.#parts.metrics.asked(this.name, 'nar', error.code === 'unavailable' ? 'error' : 'refused', ms);
    if (error?.code === 'nar_hash_mismatch') this.#parts.onProblem(error); // always: a bad NAR is not tried again soon
    else if (error !== undefined) this.#report(error);
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
  }

  /** False while the upstream is left alone; when that has lasted long enough, a probe goes out beside. */
  #mayAsk(): boolean {
    const position = breakerPosition(this.#breaker, performance.now());
    if (position === 'half-open' && !this.#probing) void this.#probe();
    return position === 'closed';
  }

  /** No lookup waits for it. */
  async #probe(): Promise<void> {
    this.#probing = true;
    try {
      const signal = AbortSignal.timeout(PROBE_MS);
      const response = await this.#client.get('nix-cache-info', { signal, headersMs: PROBE_MS });
      await readUpstreamText(response, MAX_NARINFO_BYTES);
      this.#breaker = isFailure(response.statusCode ?? 0)
        ? afterFailure(this.#breaker, performance.now())
        : afterSuccess();
    } catch {
      this.#breaker = afterFailure(this.#breaker, performance.now());
    } finally {
      this.#probing = false;
    }
  }

  async #fetchNarInfo(hash: string, signal: AbortSignal): Promise<string | undefined> {
    try {
      const response = await this.#client.get(`${hash}.narinfo`, { signal, headersMs: NARINFO_MS });
      const body = await readUpstreamText(response, MAX_NARINFO_BYTES);
      const status = response.statusCode ?? 0;
      if (status !== 200 && !ABSENT.has(status)) throw this.#answered(status);
      this.#breaker = afterSuccess();
      return status === 200 ? body.toString('utf8') : undefined;
    } catch (error) {
      // Another upstream was faster, or the server stops: that says nothing about this one.
      if (!wasGivenUp(signal)) this.#failed(error);
      throw error;
    }
  }

  async *#readFrom(url: string, at: number, signal: AbortSignal): AsyncIterable<Buffer> {
    const headers = at === 0 ? {} : { range: `bytes=${at}-` };
    const response = await this.#client.get(url, { signal, headersMs: NAR_HEADERS_MS, headers });
    try {
      this.#checkNarAnswer(response, url, at);
      yield* response as AsyncIterable<Buffer>;
    } catch (error) {
      if (error instanceof SlipwayError) throw error;
      throw unavailable(new URL(this.config.url), messageOf(error), error);
    } finally {
      response.destroy();
    }
  }

  /** Whether the body is what was asked for: the file, or its rest. */
  #checkNarAnswer({ statusCode = 0, headers }: IncomingMessage, url: string, at: number): void {
    if (ABSENT.has(statusCode))
      throw new SlipwayError('not_found', `The upstream ${this.name} has lost ${url}.`);
    if (at === 0 && statusCode === 200) return;
    if (at > 0 && statusCode === 206 && headers['content-range']?.startsWith(`bytes ${at}-`) === true) return;
    if (at === 0 || (statusCode !== 200 && statusCode !== 206)) throw this.#answered(statusCode);
    throw new SlipwayError('invalid', `The upstream ${this.name} cannot take up a transfer that broke.`);
  }

  #verified(text: string, hash: string, storeDir: string): NarInfo | undefined {
    const info = parseNarInfo(text, storeDir);
    if (storePathHash(info.storePath) !== hash)
      throw new SlipwayError(
        'narinfo_invalid',
        `${this.name} answered with ${info.storePath} when asked for ${hash}.`,
      );
    const message = fingerprint(info);
    if (!info.signatures.some((signature) => verifyText(this.#keys, message, signature)))
      throw new SlipwayError(
        'signature_invalid',
        `${this.name}: no key that counts has signed ${info.storePath}.`,
        {
          next: `Its signatures: ${info.signatures.map((one) => one.split(':', 1)[0]).join(', ') || 'none'}. Compare with "slipway cache upstream list".`,
        },
      );
    if (info.narHash.algo !== 'sha256' || readableCompression(info.compression) === undefined)
      return undefined;
    return info;
  }

  #answered(status: number): SlipwayError {
    const next = status === 401 ? { next: 'Check the token or netrc of the upstream.' } : {};
    return new SlipwayError('unavailable', `The upstream ${this.name} answered ${status}.`, next);
  }

  #failed(error: unknown): void {
    const before = this.#breaker;
    this.#breaker = afterFailure(before, performance.now());
    if (before.openUntil === undefined && this.#breaker.openUntil !== undefined) this.#report(error);
  }

  #report(error: unknown): void {
    if (performance.now() - this.#reportedAt < REPORT_EVERY_MS) return;
    this.#reportedAt = performance.now();
    this.#parts.onProblem(error);
  }
}

export function upstreamName({ url }: Pick<UpstreamConfig, 'url'>): string {
  return url.replace(/^https?:\/\//, '').replace(/\/+$/, '');
}

/** Whether the caller ended the question; its deadline passing is the upstream's failure. */
function wasGivenUp(signal: AbortSignal): boolean {
  return signal.aborted && !(signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError');
}

function isFailure(status: number): boolean {
  return status >= 500 || status === 429;
}
