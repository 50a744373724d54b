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
}

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

type Sdk = typeof S3;

const CONNECT_TIMEOUT_MS = 5_000;
const SOCKETS = 64;
/** An attempt may take this long, and a second more for every so many bytes. */
const ATTEMPT_MS = 20_000;
const BYTES_A_SECOND = 256 * 1024;
const RETRIES = { attempts: 6, baseMs: 100, maxMs: 4_000 };

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

  constructor(sdk: Sdk, client: S3.S3Client, options: S3Options) {
    this.#sdk = sdk;
    this.#client = client;
    this.#bucket = options.bucket;
    this.prefix = options.prefix;
  }

  /**
   * Runs one request, again while its failure may pass. `what` completes "The object store failed to …", `bytes` is the
   * size of the larger body. Failures that do not pass are thrown as the SDK's errors; the rest is `unavailable`.
   */
  async send<T>(what: string, bytes: number, work: (attempt: S3Attempt) => Promise<T>): Promise<T> {
    try {
      return await retry({ ...RETRIES, retryable: isPassing }, async (number) => {
        const abortSignal = deadline(ATTEMPT_MS + (bytes / BYTES_A_SECOND) * 1000);
        return await work({
          sdk: this.#sdk,
          client: this.#client,
          bucket: this.#bucket,
          abortSignal,
          number,
        });
      });
    } catch (error) {
      if (!isPassing(error)) throw error;
      throw new SlipwayError('unavailable', `The object store failed to ${what}: ${messageOf(error)}`, {
        cause: error,
      });
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

/** What is no answer of S3 at all is a cut or slow network, and passes. */
function isPassing(error: unknown): boolean {
  if (error instanceof SlipwayError) return false;
  if (error instanceof BrokenBody) return true;
  if (error instanceof TypeError || error instanceof RangeError) return false;
  const [status, code] = [s3Status(error), s3Code(error) ?? ''];
  if (code === 'CredentialsProviderError') return false;
  return status === undefined || PASSING_STATUS.has(status) || PASSING_CODES.has(code);
}
