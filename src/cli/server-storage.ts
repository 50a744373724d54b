// Opens what the configuration says the server keeps its knowledge and its bytes in. The settings (references of secrets,
// never the secrets) are remembered in the data directory, so that `slipway cache` and `slipway token` find the same.
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { sweep } from '../cache/garbage/sweep.ts';
import { formatIssue } from '../api/issue-text.ts';
import { storageConfig, type S3Config, type StorageConfig } from '../api/storage-config.ts';
import { readSecretReference } from '../effects/secret-reference.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import type { Database } from '../storage/database.ts';
import { openDiskBlobStore, removeUnfinished } from '../storage/disk-blob-store.ts';
import { openPostgresDatabase } from '../storage/postgres-database.ts';
import { openS3BlobStore } from '../storage/s3-blob-store.ts';
import type { S3Credentials } from '../storage/s3-client.ts';
import { openSqliteDatabase, type SqliteOptions } from '../storage/sqlite-database.ts';
import { SlipwayError } from '../util/errors.ts';
import type { DataPaths } from './data-directory.ts';

/** `options`: for a database that is a file. */
export async function openServerDatabase(
  paths: DataPaths,
  config: StorageConfig,
  options: SqliteOptions = {},
): Promise<Database> {
  if (config.database === undefined) return await openSqliteDatabase(paths.database, options);
  const password =
    config.databasePassword === undefined ? undefined : await readSecretReference(config.databasePassword);
  return await openPostgresDatabase({ url: config.database, password });
}

/** Where packs are. */
export async function openServerBlobs(paths: DataPaths, { s3 }: StorageConfig): Promise<BlobStore> {
  if (s3 === undefined) return await openDiskBlobStore(paths.packs);
  const { bucket, prefix, endpoint, region, pathStyle } = s3;
  const credentials = await readCredentials(s3);
  return await openS3BlobStore({ bucket, prefix, endpoint, region, pathStyle, credentials });
}

async function readCredentials({
  accessKey,
  secretKey,
  sessionToken,
}: S3Config): Promise<S3Credentials | undefined> {
  if (accessKey === undefined || secretKey === undefined) return undefined;
  return {
    accessKeyId: await readSecretReference(accessKey),
    secretAccessKey: await readSecretReference(secretKey),
    ...(sessionToken !== undefined && { sessionToken: await readSecretReference(sessionToken) }),
  };
}

/** Takes away what killed servers left. Only for the holder of the data directory's lock, before it takes uploads. */
export async function sweepServerStorage(
  paths: DataPaths,
  config: StorageConfig,
  { database, blobs }: { readonly database: Database; readonly blobs: BlobStore },
): Promise<void> {
  if (config.s3 === undefined) await removeUnfinished(paths.packs);
  // A bucket may be shared with other servers on the same database; the data directory is locked.
  await sweep(database, blobs, { shared: config.s3 !== undefined });
}

/** To be called by the server before it opens anything. */
export async function rememberStorage(paths: DataPaths, config: StorageConfig): Promise<void> {
  const file = paths.storage;
  const known = storageConfig.parse(
    Object.fromEntries(Object.entries(config).filter(([key]) => key in storageConfig.shape)),
  );
  if (Object.keys(known).length === 0) return await rm(file, { force: true });
  await writeFile(`${file}.new`, `${JSON.stringify(known, null, 2)}\n`, { mode: 0o600 });
  await rename(`${file}.new`, file);
}

/** What the server of this data directory used last; nothing special when there was none. */
export async function recallStorage(paths: DataPaths): Promise<StorageConfig> {
  const file = paths.storage;
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '{}';
    throw error;
  });
  const parsed = storageConfig.safeParse(JSON.parse(text));
  if (parsed.success) return parsed.data;
  throw new SlipwayError('invalid', `${file} does not fit: ${formatIssue(parsed.error.issues[0])}.`, {
    next: 'Start the server once with its configuration: it writes this file anew.',
  });
}
