// The AWS SDK behind one door: loaded only when S3 is used, one deadline an attempt, retries of our own.
// Checksums only where the protocol requires them: the SDK's CRCs are refused by older B2, Ceph and others
// (aws-sdk-js-v3#6810); uploads carry Content-MD5 instead, which every S3 server checks.
import type * as S3 from '@aws-sdk/client-s3';
import { deadline } from '../util/deadline.ts';
import { SlipwayError, messageOf } from '../util/errors.ts';
import { retry } from '../util/retry.ts';

export interface S3Options {
  readonly bucket: string;
  /** Before every key, for instance `slipway/`; empty or ending with `/`. */
  readonly prefix: string;
  /** Absent: AWS itself. */
  readonly endpoint?: string | undefined;
  readonly region: string;
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. */
  readonly pathStyle: boolean;
  /** Absent: the SDK's own chain (environment, shared files, web identity, instance roles). */
  readonly credentials?: S3Credentials | undefined;
  /** Default: what suits stores that are slow, not gone. */
  readonly patience?: S3Patience | undefined;
}

/** How long a store may keep us waiting, in ms. */
export interface S3Patience {
  /** An attempt may take this long, and a second more for every 256 KiB. */
  readonly attemptMs: number;
  /** An attempt ends when no byte has come or gone for so long. */
  readonly silenceMs: number;
  /** No attempt begins later than so long after the first: clients give up after 300 s. */
  readonly totalMs: number;
}

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

type Sdk = typeof S3;

const CONNECT_TIMEOUT_MS = 5_000;
const SOCKETS = 64;
const BYTES_A_SECOND = 256 * 1024;
const PATIENCE: S3Patience = { attemptMs: 20_000, silenceMs: 15_000, totalMs: 60_000 };
/** For a store that did not answer before. */
const PROBE_MS = 3_000;
const PROBE_PAUSE_MS = 1_000;
/** Some 20 s of refusals: a store that is started anew, or says that it is asked for too much. */
const RETRIES = { attempts: 12, baseMs: 100, maxMs: 4_000 };

/** Answers that may be different a moment later, by status or by S3's code. */
const PASSING_STATUS: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);
const PASSING_CODES: ReadonlySet<string> = new Set([
  'SlowDown',
  'RequestTimeout',
  'InternalError',
  'ServiceUnavailable',
  'BadDigest', // the body was damaged on its way
  'XAmzContentSHA256Mismatch',
  'IncompleteBody',
  'RequestTimeTooSkewed',
]);

/** A response that is not what its headers say. */
export class BrokenBody extends Error {}

export async function openS3Client(options: S3Options): Promise<S3Connection> {
  const sdk = await import('@aws-sdk/client-s3');
  const { credentials } = options;
  const client = new sdk.S3Client({
    region: options.region,
    forcePathStyle: options.pathStyle,
    ...(options.endpoint !== undefined && { endpoint: options.endpoint }),
    ...(credentials !== undefined && {
      credentials: {
        accessKeyId: credentials.accessKeyId,
        secretAccessKey: credentials.secretAccessKey,
        ...(credentials.sessionToken !== undefined && { sessionToken: credentials.sessionToken }),
      },
    }),
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    maxAttempts: 1,
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: (options.patience ?? PATIENCE).silenceMs,
      httpAgent: { maxSockets: SOCKETS, keepAlive: true },
      httpsAgent: { maxSockets: SOCKETS, keepAlive: true },
    },
  });
  return new S3Connection(sdk, client, options);
}

/** What one attempt may use. */
export interface S3Attempt {
  readonly client: S3.S3Client;
  readonly sdk: Sdk;
  readonly bucket: string;
  readonly abortSignal: AbortSignal;
  /** 1 for the first: a later one may find what an earlier one did. */
  readonly number: number;
}

export class S3Connection implements Disposable {
  readonly prefix: string;
  readonly #sdk: Sdk;
  readonly #client: S3.S3Client;
  readonly #bucket: string;
  readonly #patience: S3Patience;
  /** Whether the last request was given up: then nobody waits long before the store has answered again. */
  #down = false;
  #probing: Promise<void> | undefined;
  /** Until then the last probe's answer holds. */
  #probeUntil = -Infinity;

  constructor(sdk: Sdk, client: S3.S3Client, options: S3Options) {
    this.#sdk = sdk;
    this.#client = client;
    this.#bucket = options.bucket;
    this.prefix = options.prefix;
    this.#patience = options.patience ?? PATIENCE;
  }

  /**
   * Runs one request, again while its failure may pass. `what` completes "The object store failed to …", `bytes` is the
   * size of the larger body. Failures that do not pass are thrown as the SDK's errors; the rest is `unavailable`, also
   * when `signal` ends it.
   */
  async send<T>(
    what: string,
    bytes: number,
    work: (attempt: S3Attempt) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const { attemptMs, totalMs } = this.#patience;
    const policy = { ...RETRIES, withinMs: totalMs, retryable: isPassing, ...(signal && { signal }) };
    const limitMs = attemptMs + (bytes / BYTES_A_SECOND) * 1000;
    return await this.#explained(what, async () => {
      if (this.#down) await this.#probe();
      return await retry(policy, async (number) => await work(this.#attempt(number, limitMs, signal))).catch(
        (error: unknown) => {
          if (signal?.aborted !== true && isPassing(error)) this.#down = true;
          throw error;
        },
      );
    });
  }

  /** As `send`, but not again: for what need not be done. */
  async sendOnce<T>(what: string, work: (attempt: S3Attempt) => Promise<T>): Promise<T> {
    return await this.#explained(what, async () => await work(this.#attempt(1, this.#patience.silenceMs)));
  }

  #attempt(number: number, limitMs: number, signal?: AbortSignal): S3Attempt {
    const abortSignal = deadline(limitMs, signal);
    return { sdk: this.#sdk, client: this.#client, bucket: this.#bucket, abortSignal, number };
  }

  /** Asks something small, once for all who wait and for a moment after, and throws when there is no answer. */
  async #probe(): Promise<void> {
    if (this.#probeUntil < performance.now()) {
      this.#probeUntil = Infinity; // until it is known
      this.#probing = this.#askForBucket().finally(
        () => (this.#probeUntil = performance.now() + PROBE_PAUSE_MS),
      );
    }
    await this.#probing;
  }

  async #askForBucket(): Promise<void> {
    const { sdk, client, bucket, abortSignal } = this.#attempt(
      1,
      Math.min(PROBE_MS, this.#patience.silenceMs),
    );
    const command = new sdk.HeadBucketCommand({ Bucket: bucket });
    await client.send(command, { abortSignal }).catch((error: unknown) => {
      if (isPassing(error)) throw error; // any other answer is one
    });
    this.#down = false;
  }

  async #explained<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!isPassing(error)) throw error;
      const message = `The object store failed to ${what}: ${reasonOf(error)}`;
      throw new SlipwayError('unavailable', message, { cause: error });
    }
  }

  [Symbol.dispose](): void {
    this.#client.destroy();
  }
}

export function s3Status(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('$metadata' in error)) return undefined;
  return (error.$metadata as { httpStatusCode?: number } | undefined)?.httpStatusCode;
}

/** S3's name of the failure, for instance `NoSuchKey`. */
export function s3Code(error: unknown): string | undefined {
  return error instanceof Error ? error.name : undefined;
}

/** The key, upload or bucket is not there. */
export function isMissing(error: unknown): boolean {
  return s3Status(error) === 404;
}

/** The server does not know this part of S3. */
export function isUnsupported(error: unknown): boolean {
  const status = s3Status(error);
  return status === 501 || status === 405 || s3Code(error) === 'NotImplemented';
}

/** The SDK names its own parts; what people need to know is what the store did. */
function reasonOf(error: unknown): string {
  const code = s3Code(error);
  if (code === 'TimeoutError') return 'it does not answer.';
  return code === 'AbortError' ? 'it takes too long.' : messageOf(error);
}

/** What is no answer of S3 at all is a cut or slow network, and passes. */
function isPassing(error: unknown): boolean {
  if (error instanceof SlipwayError) return false;
  if (error instanceof BrokenBody) return true;
  if (error instanceof TypeError || error instanceof RangeError) return false;
  const [status, code] = [s3Status(error), s3Code(error) ?? ''];
  if (code === 'CredentialsProviderError') return false;
  return status === undefined || PASSING_STATUS.has(status) || PASSING_CODES.has(code);
}
