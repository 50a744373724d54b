// What is asked of a bucket once, before it is used: that it is there, that it keeps what it is given, which parts of
// S3 its server knows; and uploads that were never finished are taken away.
import { hash, randomBytes } from 'node:crypto';
import type { LifecycleRule } from '@aws-sdk/client-s3';
import { SlipwayError, isCode, messageOf } from '../util/errors.ts';
import { isMissing, isUnsupported, s3Status, type S3Connection, type S3Options } from './s3-client.ts';

/** An upload takes minutes; one of two days has lost its server. */
const STALE_MS = 48 * 3600 * 1000;
/** Objects that went there answer no read before somebody restores them. */
const ARCHIVES: ReadonlySet<string> = new Set(['GLACIER', 'DEEP_ARCHIVE']);

/** Throws `invalid` when the bucket cannot be reached with these settings, or expires objects. */
export async function checkBucket(connection: S3Connection, options: S3Options): Promise<void> {
  const { bucket: name, prefix } = options;
  await connection
    .send('find its bucket', 0, async ({ sdk, client, bucket, abortSignal }) => {
      await client.send(new sdk.HeadBucketCommand({ Bucket: bucket }), { abortSignal });
    })
    .catch((error: unknown) => {
      if (error instanceof SlipwayError) throw error;
      throw unusable(name, error);
    });
  const bad = (await readRules(connection)).find((rule) => endsBlobs(rule, prefix));
  if (bad === undefined) return;
  const rule = bad.ID === undefined || bad.ID === '' ? 'A lifecycle rule' : `The lifecycle rule "${bad.ID}"`;
  throw new SlipwayError(
    'invalid',
    `${rule} of the bucket ${name} removes or archives objects by age. Chunks are shared by paths old and new: the cache would lose them.`,
    {
      next: 'Remove the rule or limit it to another prefix (AbortIncompleteMultipartUpload may stay); what is old is removed by Slipway itself.',
      facts: { bucket: name, rule: bad.ID ?? '' },
    },
  );
}

/** Whether an object under `prefix` may end by this rule. */
export function endsBlobs(rule: LifecycleRule, prefix: string): boolean {
  return rule.Status === 'Enabled' && isAbout(rule, prefix) && (expires(rule) || archives(rule));
}

function isAbout(rule: LifecycleRule, prefix: string): boolean {
  if (hasTags(rule)) return false; // our objects have none
  const only = rule.Filter?.Prefix ?? rule.Filter?.And?.Prefix ?? rule.Prefix ?? '';
  return prefix.startsWith(only) || only.startsWith(prefix);
}

function hasTags({ Filter: filter }: LifecycleRule): boolean {
  return filter?.Tag !== undefined || (filter?.And?.Tags ?? []).length > 0;
}

function expires({ Expiration: { Days, Date: date } = {} }: LifecycleRule): boolean {
  return (Days !== undefined && Days > 0) || date !== undefined;
}

function archives({ Transitions = [] }: LifecycleRule): boolean {
  return Transitions.some(({ StorageClass }) => ARCHIVES.has(StorageClass ?? ''));
}

/** What a server does beyond the common ground. */
export interface S3Features {
  /** It honours `If-None-Match: *`; some ignore it and replace. */
  readonly conditional: boolean;
  /** ETags are the MD5 of what was stored (not so with KMS keys), so that damage shows that it did not check itself. */
  readonly digestTags: boolean;
}

/** Finds out by storing a tiny object twice. */
export async function probeFeatures(connection: S3Connection): Promise<S3Features> {
  const Key = `${connection.prefix}probe/${randomBytes(8).toString('hex')}`;
  const Body = Buffer.from('slipway');
  const ContentMD5 = hash('md5', Body, 'base64');
  const put = async (condition: { readonly IfNoneMatch?: string }): Promise<string | undefined> =>
    await connection.send('take a blob', 0, async ({ sdk, client, bucket, abortSignal }) => {
      const command = new sdk.PutObjectCommand({ Bucket: bucket, Key, Body, ContentMD5, ...condition });
      return (await client.send(command, { abortSignal })).ETag;
    });
  const tag = await put({});
  const refusal = await put({ IfNoneMatch: '*' }).then(
    () => undefined,
    (error: unknown) => error,
  );
  if (isCode(refusal, 'unavailable')) throw refusal;
  await connection.send('delete a blob', 0, async ({ sdk, client, bucket, abortSignal }) => {
    await client.send(new sdk.DeleteObjectCommand({ Bucket: bucket, Key }), { abortSignal });
  });
  return { conditional: s3Status(refusal) === 412, digestTags: digestOfTag(tag) === hash('md5', Body) };
}

/** An ETag without its quotes. */
export function digestOfTag(tag: string | undefined): string | undefined {
  return tag?.replaceAll('"', '').toLowerCase();
}

/** Parts of an upload that was not finished cost money and are seen by nobody. */
export async function abortStaleUploads(connection: S3Connection, now = Date.now()): Promise<number> {
  let aborted = 0;
  for (const { key, id, startedAt } of await listUploads(connection)) {
    if (startedAt > now - STALE_MS) continue;
    await connection.send('abort an upload', 0, async ({ sdk, client, bucket, abortSignal }) => {
      const command = new sdk.AbortMultipartUploadCommand({ Bucket: bucket, Key: key, UploadId: id });
      await client.send(command, { abortSignal }).catch((error: unknown) => {
        if (!isMissing(error)) throw error;
      });
    });
    aborted++;
  }
  return aborted;
}

/** No rules when there are none, the server has no such thing, or this key may not ask. */
async function readRules(connection: S3Connection): Promise<readonly LifecycleRule[]> {
  return await connection.send('tell its rules', 0, async ({ sdk, client, bucket, abortSignal }) => {
    try {
      const command = new sdk.GetBucketLifecycleConfigurationCommand({ Bucket: bucket });
      return (await client.send(command, { abortSignal })).Rules ?? [];
    } catch (error) {
      if (isMissing(error) || isUnsupported(error) || s3Status(error) === 403) return [];
      throw error;
    }
  });
}

interface OpenUpload {
  readonly key: string;
  readonly id: string;
  readonly startedAt: number;
}

/** The first thousand; the next start finds the next ones. */
async function listUploads(connection: S3Connection): Promise<OpenUpload[]> {
  return await connection.send('list uploads', 0, async ({ sdk, client, bucket, abortSignal }) => {
    try {
      const command = new sdk.ListMultipartUploadsCommand({ Bucket: bucket, Prefix: connection.prefix });
      const { Uploads = [] } = await client.send(command, { abortSignal });
      return Uploads.flatMap(({ Key, UploadId, Initiated }) =>
        Key === undefined || UploadId === undefined || Initiated === undefined
          ? []
          : [{ key: Key, id: UploadId, startedAt: Initiated.getTime() }],
      );
    } catch (error) {
      if (isMissing(error) || isUnsupported(error) || s3Status(error) === 403) return [];
      throw error;
    }
  });
}

function unusable(bucket: string, cause: unknown): SlipwayError {
  const status = s3Status(cause);
  if (status === 404) return new SlipwayError('invalid', `There is no bucket ${bucket}.`, { cause });
  if (status === 401 || status === 403)
    return new SlipwayError('invalid', `The object store refuses the credentials for the bucket ${bucket}.`, {
      next: 'Check [s3] accessKey and secretKey, and what that key may do.',
      cause,
    });
  return new SlipwayError('invalid', `The bucket ${bucket} cannot be used: ${messageOf(cause)}`, {
    next: 'Check [s3] endpoint, region and pathStyle.',
    cause,
  });
}
