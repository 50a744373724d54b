// One upstream: any binary cache over HTTP whose signatures we were told to trust. Its word counts only when one of the
// configured keys has signed it; what it sends counts only when it has the hash that was signed.
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import type { UpstreamConfig } from '../../api/source-config.ts';
import { debugLinkNames, parseDebugLink, type DebugLink } from '../../nix/debug-link.ts';
import { fingerprint, MAX_NARINFO_BYTES, parseNarInfo, type NarInfo } from '../../nix/narinfo.ts';
import {
  parseRealisation,
  realisationFingerprint,
  type Realisation,
  type RealisationKey,
} from '../../nix/realisation.ts';
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
import type { QuestionKind, UpstreamMetrics } from './upstream-metrics.ts';
import { readableCompression } from './upstream-compression.ts';

const ANSWER_MS = 60_000; // the caller's signal comes first
const NAR_HEADERS_MS = 30_000;
const PROBE_MS = 5_000;
/** A transfer that breaks is taken up where it broke, so often. */
const TRANSFERS = 4;
const RESUME_PAUSE_MS = 250;
const REPORT_EVERY_MS = 60_000;
const ABSENT = new Set([403, 404, 410]); // S3 without the right to list says 403 for what is not there
const NO_HEAD = new Set([405, 501]);

/** Of a realisation, or of a link to debug information. */
const MAX_SMALL_BYTES = 1024 * 1024;
/** They are held in memory on their way. */
const MAX_LOG_BYTES = 16 * 1024 * 1024;
const LOG_HEADERS_MS = 10_000;

/** A file that is handed on as it came. */
export interface OfferedFile {
  readonly body: Buffer;
  readonly contentEncoding: string | undefined;
}

/** A file of a NAR, by its name below the upstream's URL. */
export interface NarFile {
  readonly url: string;
  /** For messages. */
  readonly what: string;
  /** More bytes than these are `too_large`. */
  readonly most: number;
}

/** A small file, and how to read it: what it says, `undefined` when that is of no use, or an error when it is not to be believed. */
interface Question<T> {
  readonly kind: QuestionKind;
  readonly file: string;
  readonly method?: 'HEAD';
  readonly limit: number;
  readonly read: (answer: UpstreamAnswer) => T | undefined;
}

interface UpstreamAnswer {
  readonly text: string;
  readonly headers: IncomingHttpHeaders;
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
    return await this.#ask(
      {
        kind: 'narinfo',
        file: `${hash}.narinfo`,
        limit: MAX_NARINFO_BYTES,
        read: ({ text }) => this.#verified(text, hash, storeDir),
      },
      signal,
    );
  }

  /** The realisation in the file `name`, its signature checked; otherwise as findNarInfo. */
  async findRealisation(
    name: string,
    key: RealisationKey,
    signal: AbortSignal,
  ): Promise<Realisation | undefined> {
    const read = ({ text }: UpstreamAnswer): Realisation => this.#verifiedRealisation(text, key);
    return await this.#ask({ kind: 'realisation', file: name, limit: MAX_SMALL_BYTES, read }, signal);
  }

  /** Where debug information lies, under whichever name the upstream has that. Nobody signs it; otherwise as findNarInfo. */
  async findDebugLink(buildId: string, signal: AbortSignal): Promise<DebugLink | undefined> {
    const read = ({ text }: UpstreamAnswer): DebugLink => parseDebugLink(text, buildId);
    for (const file of debugLinkNames(buildId)) {
      const link = await this.#ask({ kind: 'debuginfo', file, limit: MAX_SMALL_BYTES, read }, signal);
      if (link !== undefined) return link;
    }
    return undefined;
  }

  /** Bytes of a file; `undefined` when the upstream does not have it, or does not know. Rejects when it cannot be asked. */
  async findSize(file: string, signal: AbortSignal): Promise<number | undefined> {
    return await this.#ask({ kind: 'debuginfo', file, method: 'HEAD', limit: 0, read: sizeOf }, signal);
  }

  /** A build log as the upstream has it. Nobody signs logs: they are for people. Rejects when it cannot be asked. */
  async findLog(name: string, signal: AbortSignal): Promise<OfferedFile | undefined> {
    if (!this.#mayAsk()) return undefined;
    const response = await this.#client.get(urlOf(name), { signal, headersMs: LOG_HEADERS_MS });
    if (response.statusCode !== 200) {
      response.destroy();
      return undefined;
    }
    const body = await readUpstreamText(response, MAX_LOG_BYTES);
    this.#parts.metrics.received(this.name, body.length);
    return { body, contentEncoding: response.headers['content-encoding'] };
  }

  /** A file as it is sent; taken up where it breaks. Not there any more: `not_found`. */
  async *readNar({ url, what, most }: NarFile, signal: AbortSignal): AsyncIterable<Buffer> {
    for (let at = 0, transfer = 1; ; transfer++)
      try {
        for await (const piece of this.#readFrom(url, at, signal)) {
          at += piece.length;
          if (at > most) throw new SlipwayError('too_large', `${what} is larger than was said.`);
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

  async #ask<T>(question: Question<T>, signal: AbortSignal): Promise<T | undefined> {
    const { metrics } = this.#parts;
    if (!this.#mayAsk()) {
      metrics.asked(this.name, question.kind, 'skipped');
      throw new SlipwayError('unavailable', `The upstream ${this.name} is left alone after failures.`);
    }
    const started = performance.now();
    const count = (outcome: 'hit' | 'miss' | 'error' | 'refused'): void =>
      metrics.asked(this.name, question.kind, outcome, performance.now() - started);
    const answer = await this.#fetch(question, signal).catch((error: unknown) => {
      if (!wasGivenUp(signal)) count('error');
      throw error;
    });
    try {
      const found = answer && question.read(answer);
      count(found === undefined ? 'miss' : 'hit');
      return found;
    } catch (error) {
      count('refused');
      this.#report(error);
      throw error;
    }
  }

  /** `undefined` when it is not there. */
  async #fetch(
    { file, method, limit }: Pick<Question<unknown>, 'file' | 'method' | 'limit'>,
    signal: AbortSignal,
  ): Promise<UpstreamAnswer | undefined> {
    try {
      const wanted = { signal, headersMs: ANSWER_MS, ...(method && { method }) };
      const response = await this.#client.get(urlOf(file), wanted);
      const status = response.statusCode ?? 0;
      const body = await readUpstreamText(response, status === 200 ? limit : MAX_NARINFO_BYTES);
      const absent = ABSENT.has(status) || (method === 'HEAD' && NO_HEAD.has(status));
      if (status !== 200 && !absent) throw this.#answered(status);
      this.#breaker = afterSuccess();
      return status === 200 ? { text: body.toString('utf8'), headers: response.headers } : undefined;
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
    this.#checkSigned(info.storePath, fingerprint(info), info.signatures);
    if (info.narHash.algo !== 'sha256' || readableCompression(info.compression) === undefined)
      return undefined;
    return info;
  }

  #verifiedRealisation(text: string, key: RealisationKey): Realisation {
    const realisation = parseRealisation(text, key);
    const what = `that ${key.form === 'hash' ? key.id : `${key.drvPath}^${key.outputName}`} is ${realisation.outPath}`;
    this.#checkSigned(what, realisationFingerprint(realisation), realisation.signatures);
    return realisation;
  }

  #checkSigned(what: string, message: string, signatures: readonly string[]): void {
    if (signatures.some((signature) => verifyText(this.#keys, message, signature))) return;
    const names = signatures.map((one) => one.split(':', 1)[0]).join(', ') || 'none';
    throw new SlipwayError('signature_invalid', `${this.name}: no key that counts has signed ${what}.`, {
      next: `Its signatures: ${names}. Compare with "slipway cache upstream list".`,
    });
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

function sizeOf({ headers }: UpstreamAnswer): number | undefined {
  const length = headers['content-length'] ?? '';
  return /^[1-9]\d{0,14}$/.test(length) ? Number(length) : undefined;
}

/** Nix's names may hold a question mark, which would begin a query. */
function urlOf(name: string): string {
  return name.replaceAll('?', '%3F');
}

/** Whether the caller ended the question; its deadline passing is the upstream's failure. */
function wasGivenUp(signal: AbortSignal): boolean {
  return signal.aborted && !(signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError');
}

function isFailure(status: number): boolean {
  return status >= 500 || status === 429;
}
