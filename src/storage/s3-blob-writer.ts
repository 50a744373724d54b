// One blob on its way into a bucket: a single put up to 8 MiB, else a multipart upload whose parts go out while the next
// ones fill. At most three parts are in memory. An upload that was not finished is aborted.
import { createHash, hash } from 'node:crypto';
import { SlipwayError } from '../util/errors.ts';
import type { BlobWriter } from './blob-store.ts';
import { digestOfTag, type S3Features } from './s3-bucket.ts';
import { BrokenBody, isMissing, s3Status, type S3Attempt, type S3Connection } from './s3-client.ts';

export const PART_BYTES = 8 * 1024 * 1024; // the least that S3 takes is 5 MiB; 10,000 parts come to 80 GiB
const PARTS_IN_FLIGHT = 2;

export interface S3WriterParts {
  readonly connection: S3Connection;
  /** With the store's prefix. */
  readonly key: string;
  readonly features: S3Features;
  /** Runs the commit unless the key is taken, which is `conflict`. */
  readonly commitOnce: (commit: () => Promise<void>) => Promise<void>;
}

interface SentPart {
  readonly PartNumber: number;
  readonly ETag: string;
  readonly md5: Buffer;
}

export class S3BlobWriter implements BlobWriter {
  readonly #parts: S3WriterParts;
  #buffer: Buffer = Buffer.alloc(0);
  #filled = 0;
  #uploadId: string | undefined;
  #sent: Promise<SentPart>[] = [];
  #open = true;
  readonly #abandoned = new AbortController();

  constructor(parts: S3WriterParts) {
    this.#parts = parts;
  }

  async write(bytes: Uint8Array): Promise<void> {
    let taken = 0;
    while (taken < bytes.length) {
      if (this.#filled === PART_BYTES) await this.#sendPart();
      if (this.#filled === this.#buffer.length) this.#grow();
      const room = Math.min(this.#buffer.length - this.#filled, bytes.length - taken);
      this.#buffer.set(bytes.subarray(taken, taken + room), this.#filled);
      this.#filled += room;
      taken += room;
    }
  }

  async commit(): Promise<void> {
    await this.#parts.commitOnce(async () => {
      await (this.#uploadId === undefined ? this.#putWhole() : this.#complete());
    });
    this.#open = false;
    this.#buffer = Buffer.alloc(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.#buffer = Buffer.alloc(0);
    this.#abandoned.abort();
    await Promise.allSettled(this.#sent);
    if (this.#uploadId !== undefined) await this.#abort(this.#uploadId).catch(() => undefined); // swept at the next start
  }

  /** Most blobs are small: the buffer doubles up to a whole part. */
  #grow(): void {
    const larger = Buffer.allocUnsafeSlow(Math.min(PART_BYTES, Math.max(64 * 1024, this.#buffer.length * 2)));
    larger.set(this.#buffer);
    this.#buffer = larger;
  }

  async #sendPart(): Promise<void> {
    this.#uploadId ??= await this.#start();
    const uploadId = this.#uploadId;
    const bytes = this.#buffer.subarray(0, this.#filled);
    this.#buffer = Buffer.alloc(0);
    this.#filled = 0;
    if (this.#sent.length >= PARTS_IN_FLIGHT) await this.#sent.at(-PARTS_IN_FLIGHT);
    const sending = this.#upload(uploadId, this.#sent.length + 1, bytes);
    sending.catch(() => undefined); // awaited by a later part or by the commit
    this.#sent.push(sending);
  }

  async #start(): Promise<string> {
    return await this.#send('start an upload', 0, async ({ sdk, client, bucket, abortSignal }) => {
      const command = new sdk.CreateMultipartUploadCommand({ Bucket: bucket, Key: this.#parts.key });
      const { UploadId } = await client.send(command, { abortSignal });
      if (UploadId === undefined)
        throw new SlipwayError('unavailable', 'The object store gave no upload id.');
      return UploadId;
    });
  }

  async #upload(uploadId: string, number: number, bytes: Buffer): Promise<SentPart> {
    const md5 = hash('md5', bytes, 'buffer');
    const ETag = await this.#send(
      'take a part',
      bytes.length,
      async ({ sdk, client, bucket, abortSignal }) => {
        const command = new sdk.UploadPartCommand({
          Bucket: bucket,
          Key: this.#parts.key,
          UploadId: uploadId,
          PartNumber: number,
          Body: bytes,
          ContentLength: bytes.length,
          ContentMD5: md5.toString('base64'),
        });
        const answer = await client.send(command, { abortSignal });
        this.#checkTag(answer.ETag, md5.toString('hex'));
        return answer.ETag;
      },
    );
    return { PartNumber: number, ETag: ETag ?? '', md5 };
  }

  async #complete(): Promise<void> {
    if (this.#filled > 0) await this.#sendPart();
    const sent = await Promise.all(this.#sent);
    const etag = createHash('md5')
      .update(Buffer.concat(sent.map(({ md5 }) => md5)))
      .digest('hex');
    await this.#send('finish an upload', 0, async (attempt) => {
      const command = new attempt.sdk.CompleteMultipartUploadCommand({
        Bucket: attempt.bucket,
        Key: this.#parts.key,
        UploadId: this.#uploadId,
        MultipartUpload: { Parts: sent.map(({ PartNumber, ETag }) => ({ PartNumber, ETag })) },
        ...this.#condition(),
      });
      await this.#unlessDone(attempt, `${etag}-${sent.length}`, async () => {
        await attempt.client.send(command, { abortSignal: attempt.abortSignal });
      });
    });
  }

  async #putWhole(): Promise<void> {
    const bytes = this.#buffer.subarray(0, this.#filled);
    const md5 = hash('md5', bytes, 'buffer');
    await this.#send('take a blob', bytes.length, async (attempt) => {
      const command = new attempt.sdk.PutObjectCommand({
        Bucket: attempt.bucket,
        Key: this.#parts.key,
        Body: bytes,
        ContentLength: bytes.length,
        ContentMD5: md5.toString('base64'),
        ...this.#condition(),
      });
      await this.#unlessDone(attempt, md5.toString('hex'), async () => {
        const { ETag } = await attempt.client.send(command, { abortSignal: attempt.abortSignal });
        await this.#removeDamaged(attempt, () => this.#checkTag(ETag, md5.toString('hex')));
      });
    });
  }

  #condition(): { readonly IfNoneMatch?: string } {
    return this.#parts.features.conditional ? { IfNoneMatch: '*' } : {};
  }

  /** A server that does not check Content-MD5 tells by the tag what it has stored. */
  #checkTag(tag: string | undefined, md5: string): void {
    if (this.#parts.features.digestTags && digestOfTag(tag) !== md5)
      throw new BrokenBody('the bytes were damaged on their way');
  }

  /** What was stored wrong must not stand in the way of the next attempt. */
  async #removeDamaged({ sdk, client, bucket, abortSignal }: S3Attempt, check: () => void): Promise<void> {
    try {
      check();
    } catch (error) {
      await client.send(new sdk.DeleteObjectCommand({ Bucket: bucket, Key: this.#parts.key }), {
        abortSignal,
      });
      throw error;
    }
  }

  /** The answer to an attempt that worked may have been lost: then the next one finds the blob, and it is this one. */
  async #unlessDone(attempt: S3Attempt, etag: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const taken = s3Status(error) === 412 || s3Status(error) === 409;
      if (!taken && !isMissing(error)) throw error;
      if (attempt.number > 1 && (await this.#findTag(attempt)) === etag) return;
      if (!taken) throw error;
      throw new SlipwayError('conflict', `The blob ${this.#parts.key} exists already.`, { cause: error });
    }
  }

  async #findTag({ sdk, client, bucket, abortSignal }: S3Attempt): Promise<string | undefined> {
    const command = new sdk.HeadObjectCommand({ Bucket: bucket, Key: this.#parts.key });
    const found = await client.send(command, { abortSignal }).catch((error: unknown) => {
      if (isMissing(error)) return undefined;
      throw error;
    });
    return digestOfTag(found?.ETag);
  }

  async #abort(uploadId: string): Promise<void> {
    await this.#parts.connection.sendOnce('abort an upload', async ({ sdk, client, bucket, abortSignal }) => {
      const command = new sdk.AbortMultipartUploadCommand({
        Bucket: bucket,
        Key: this.#parts.key,
        UploadId: uploadId,
      });
      await client.send(command, { abortSignal });
    });
  }

  async #send<T>(what: string, bytes: number, work: (attempt: S3Attempt) => Promise<T>): Promise<T> {
    return await this.#parts.connection.send(what, bytes, work, this.#abandoned.signal);
  }
}
