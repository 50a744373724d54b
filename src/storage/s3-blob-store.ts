// BlobStore on an S3 bucket: ranged reads, put-if-absent, multipart uploads in parts of 8 MiB (s3-blob-writer.ts).
// Works with what servers have in common; what they lack is found out when the store is opened.
import { LRUCache } from 'lru-cache';
import type { GetObjectCommandOutput } from '@aws-sdk/client-s3';
import { SlipwayError } from '../util/errors.ts';
import { checkBlobKey, type BlobEntry, type BlobStore, type BlobWriter } from './blob-store.ts';
import { abortStaleUploads, checkBucket, probeFeatures, type S3Features } from './s3-bucket.ts';
import { S3BlobWriter } from './s3-blob-writer.ts';
import {
  BrokenBody,
  isMissing,
  openS3Client,
  s3Status,
  type S3Connection,
  type S3Options,
} from './s3-client.ts';

/** Blobs never change, so their sizes are asked for rarely; one that somebody else deleted is noticed by its reader. */
const SIZE_TTL_MS = 300_000;
const KNOWN_SIZES = 100_000;

/** Connects, and refuses a bucket that would lose blobs by itself. */
export async function openS3BlobStore(options: S3Options): Promise<BlobStore> {
  const connection = await openS3Client(options);
  try {
    await checkBucket(connection, options);
    await abortStaleUploads(connection);
    return new S3BlobStore(connection, await probeFeatures(connection));
  } catch (error) {
    connection[Symbol.dispose]();
    throw error;
  }
}

class S3BlobStore implements BlobStore {
  readonly #connection: S3Connection;
  readonly #features: S3Features;
  readonly #sizes = new LRUCache<string, number>({ max: KNOWN_SIZES, ttl: SIZE_TTL_MS });
  /** Keys that a writer of this process is about to commit: a server without conditional puts would let both win. */
  readonly #committing = new Set<string>();

  constructor(connection: S3Connection, features: S3Features) {
    this.#connection = connection;
    this.#features = features;
  }

  async create(key: string): Promise<BlobWriter> {
    const commitOnce = async (commit: () => Promise<void>): Promise<void> =>
      await this.#commitOnce(key, commit);
    const parts = {
      connection: this.#connection,
      key: this.#target(key),
      features: this.#features,
      commitOnce,
    };
    return await Promise.resolve(new S3BlobWriter(parts));
  }

  async read(key: string, offset: number, length: number): Promise<Buffer | undefined> {
    const target = this.#target(key);
    if (length === 0) {
      const size = await this.size(key);
      return size === undefined || size < offset ? undefined : Buffer.alloc(0);
    }
    const last = offset + length - 1;
    return await this.#connection.send(
      'read a blob',
      length,
      async ({ sdk, client, bucket, abortSignal }) => {
        const command = new sdk.GetObjectCommand({
          Bucket: bucket,
          Key: target,
          Range: `bytes=${offset}-${last}`,
        });
        const answer = await client.send(command, { abortSignal }).catch(undefinedWhenAbsent);
        if (answer === undefined || endsBefore(answer, last)) return undefined;
        return await readBody(answer, length);
      },
    );
  }

  async size(key: string): Promise<number | undefined> {
    const known = this.#sizes.get(key);
    if (known !== undefined) return known;
    const size = await this.#askSize(this.#target(key));
    if (size !== undefined) this.#sizes.set(key, size);
    return size;
  }

  async *list(prefix: string): AsyncIterable<BlobEntry> {
    const base = this.#connection.prefix;
    let token: string | undefined;
    do {
      const page = await this.#connection.send(
        'list blobs',
        0,
        async ({ sdk, client, bucket, abortSignal }) => {
          const more = token === undefined ? {} : { ContinuationToken: token };
          return await client.send(
            new sdk.ListObjectsV2Command({ Bucket: bucket, Prefix: base + prefix, ...more }),
            { abortSignal },
          );
        },
      );
      for (const { Key = '', Size = 0, LastModified } of page.Contents ?? [])
        yield { key: Key.slice(base.length), size: Size, modifiedAt: LastModified?.getTime() ?? 0 };
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async delete(key: string): Promise<void> {
    const target = this.#target(key);
    this.#sizes.delete(key);
    await this.#connection.send('delete a blob', 0, async ({ sdk, client, bucket, abortSignal }) => {
      const command = new sdk.DeleteObjectCommand({ Bucket: bucket, Key: target });
      await client.send(command, { abortSignal }).catch(undefinedWhenAbsent);
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#connection[Symbol.dispose]();
    return Promise.resolve();
  }

  #target(key: string): string {
    checkBlobKey(key);
    return this.#connection.prefix + key;
  }

  async #askSize(target: string): Promise<number | undefined> {
    return await this.#connection.send('look for a blob', 0, async ({ sdk, client, bucket, abortSignal }) => {
      const command = new sdk.HeadObjectCommand({ Bucket: bucket, Key: target });
      const answer = await client.send(command, { abortSignal }).catch(undefinedWhenAbsent);
      return answer?.ContentLength;
    });
  }

  async #commitOnce(key: string, commit: () => Promise<void>): Promise<void> {
    const taken = this.#committing.has(key) || (await this.#askSize(this.#target(key))) !== undefined;
    if (taken || this.#committing.has(key))
      throw new SlipwayError('conflict', `The blob ${key} exists already.`);
    this.#committing.add(key);
    try {
      await commit();
      this.#sizes.delete(key);
    } finally {
      this.#committing.delete(key);
    }
  }
}

/** 404, or 416 for a range that begins after the end. */
function undefinedWhenAbsent(error: unknown): undefined {
  if (isMissing(error) || s3Status(error) === 416) return undefined;
  throw error;
}

/** `Content-Range: bytes 0-9/10`: a range is cut at the blob's end without further notice. */
function endsBefore({ ContentRange }: GetObjectCommandOutput, last: number): boolean {
  const total = /\/(\d+)$/.exec(ContentRange ?? '')?.[1];
  if (total === undefined) throw new BrokenBody('the answer to a ranged read has no Content-Range');
  return Number(total) <= last;
}

async function readBody({ Body }: GetObjectCommandOutput, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(length);
  let filled = 0;
  for await (const piece of Body as AsyncIterable<Buffer>) {
    if (filled + piece.length > length) throw new BrokenBody('more bytes came than were asked for');
    piece.copy(buffer, filled);
    filled += piece.length;
  }
  if (filled < length) throw new BrokenBody('the answer was cut off');
  return buffer;
}
