// The four pairs of storage, on real servers that are started when they are first needed and outlive every kill.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openPostgresServer, type PostgresServer } from '../../contract/postgres-server.ts';
import { openS3Server, type S3Server } from '../../contract/s3-server.ts';
import type { CrashPlace } from './crash-messages.ts';

export const PAIRS = ['disk+sqlite', 'disk+postgres', 's3+sqlite', 's3+postgres'] as const;
export type Pair = (typeof PAIRS)[number];

export class CrashPlaces implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'slipway-crash-'));
  #postgres: Promise<PostgresServer> | undefined;
  #s3: Promise<S3Server> | undefined;
  #made = 0;

  /** An empty place. */
  async make(pair: Pair): Promise<CrashPlace> {
    const data = join(this.folder, `place-${this.#made++}`);
    return {
      data,
      ...(pair.endsWith('postgres') && { postgres: await (await this.postgres()).createDatabase() }),
      ...(pair.startsWith('s3') && { s3: await (await this.s3()).createBucket() }),
    };
  }

  /** The same with an empty database: what was known is lost, what was stored is there. */
  async loseDatabase(place: CrashPlace): Promise<CrashPlace> {
    for (const end of ['', '-wal', '-shm']) rmSync(join(place.data, `slipway.db${end}`), { force: true });
    if (place.postgres === undefined) return place;
    return { ...place, postgres: await (await this.postgres()).createDatabase() };
  }

  async postgres(): Promise<PostgresServer> {
    return await (this.#postgres ??= openPostgresServer());
  }

  async s3(): Promise<S3Server> {
    return await (this.#s3 ??= openS3Server());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#postgres)?.[Symbol.asyncDispose]();
    await (await this.#s3)?.[Symbol.asyncDispose]();
    if (process.env['SLIPWAY_CRASH_KEEP'] === undefined)
      rmSync(this.folder, { recursive: true, force: true });
  }
}
