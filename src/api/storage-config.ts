// Where a server keeps what it knows (database) and what it holds (blobs): part of the server's configuration.
// Without any of it: SQLite and files in the data directory. Every secret value is a reference, never the value itself.
import * as z from 'zod/mini';
import { secretReference } from './secret-reference.ts';

const s3 = z.strictObject({
  bucket: z.string().check(z.regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'not the name of a bucket')),
  /** Before every key. */
  prefix: z._default(
    z
      .string()
      .check(z.regex(/^([a-zA-Z0-9_.-]+\/)*$/, 'not a prefix like slipway/ (empty, or ending with a slash)')),
    '',
  ),
  /** Absent: AWS. */
  endpoint: z.optional(
    z.string().check(z.regex(/^https?:\/\/[^\s/@]+$/, 'not a URL like https://s3.example.org')),
  ),
  region: z._default(z.string().check(z.regex(/^[a-z0-9-]+$/, 'not a region')), 'us-east-1'),
  /** `endpoint/bucket/key`, which servers of one's own want. */
  pathStyle: z._default(z.boolean(), false),
  /** Both or neither; without them the chain of the AWS SDK counts: environment, shared files, web identity, instance role. */
  accessKey: z.optional(secretReference),
  secretKey: z.optional(secretReference),
  sessionToken: z.optional(secretReference),
});

export const storageConfig = z.strictObject({
  /** `postgres://user@host:port/database?sslmode=verify-full`, or a socket: `postgres://user@/database?host=/run/postgresql`. */
  database: z.optional(
    z
      .string()
      .check(
        z.regex(/^postgres(ql)?:\/\/[^\s]+$/, 'not a URL like postgres://user@host/database'),
        z.regex(/^(?!\w+:\/\/[^/]*:[^/]*@)/, 'holds a password: use "databasePassword"'),
        z.regex(/^[^?]*(\?(?!.*\bpassword=).*)?$/, 'holds a password: use "databasePassword"'),
      ),
  ),
  databasePassword: z.optional(secretReference),
  /** Packs go to this bucket instead of the data directory. */
  s3: z.optional(
    s3.check(
      z.refine(
        (given) => (given.accessKey === undefined) === (given.secretKey === undefined),
        'accessKey and secretKey belong together',
      ),
    ),
  ),
});

export type S3Config = z.infer<typeof s3>;
export type StorageConfig = z.infer<typeof storageConfig>;
