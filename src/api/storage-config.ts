// Where a server keeps what it knows (database) and what it holds (blobs): part of the server's configuration.
// Without any of it: SQLite and files in the data directory. Every secret value is a reference, never the value itself.
import * as z from 'zod/mini';
import { secretReference } from './secret-reference.ts';

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
});

export type StorageConfig = z.infer<typeof storageConfig>;
