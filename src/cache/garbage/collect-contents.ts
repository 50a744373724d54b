// Lets go of contents that nothing names any more: their path was removed, their upload expired, their log is too old.
// A page of contents at a time is looked at without a transaction, and only what must go is then deleted in one, which
// asks again.
import { setImmediate as pause } from 'node:timers/promises';
import type { Kysely, SelectQueryBuilder } from 'kysely';
import type { Database } from '../../storage/database.ts';
import { isPulled } from '../sources/pulled-figures.ts';
import type { Schema } from '../../storage/schema.ts';

const ROWS_A_PAGE = 300;

export interface ContentCollection {
  readonly uploads: number;
  readonly contents: number;
  readonly contentBytes: number;
}

export async function collectContents(
  database: Database,
  now: number,
  progress: () => Promise<void>,
): Promise<ContentCollection> {
  const total = { uploads: 0, contents: 0, contentBytes: 0 };
  for (let after = 0; ;) {
    await progress();
    const ids = await contentIds(database, after);
    const last = ids.at(-1);
    if (last === undefined) return total;
    total.uploads += await collectUploads(database, { after, last }, now);
    for (const size of await collectUnnamed(database, { after, last })) {
      total.contents++;
      total.contentBytes += size;
    }
    if (ids.length < ROWS_A_PAGE) return total;
    after = last;
    await pause();
  }
}

/** Removes build logs from before `before` whose derivation made no path that is in the cache; returns how many. */
export async function collectLogs(database: Database, cacheId: number, before: number): Promise<number> {
  const old = await database.read
    .selectFrom('side_file')
    .select('name')
    .where('cache_id', '=', cacheId)
    .where('name', 'like', 'log/%')
    .where('updated_at', '<', before)
    .execute();
  if (old.length === 0) return 0;
  const derivers = await database.read
    .selectFrom('store_path')
    .select('deriver')
    .distinct()
    .where('cache_id', '=', cacheId)
    .where('deriver', 'is not', null)
    .execute();
  const needed = new Set(derivers.map(({ deriver }) => `log/${deriver ?? ''}`));
  const names = old.map(({ name }) => name).filter((name) => !needed.has(name));
  for (let from = 0; from < names.length; from += ROWS_A_PAGE)
    await database.write(
      async (transaction) =>
        await transaction
          .deleteFrom('side_file')
          .where('cache_id', '=', cacheId)
          .where('name', 'in', names.slice(from, from + ROWS_A_PAGE))
          .where('updated_at', '<', before)
          .execute(),
    );
  return names.length;
}

/** Removes realisations from before `before` that upstreams have given; returns how many. They can be asked for again. */
export async function collectPulledFiles(database: Database, before: number): Promise<number> {
  const old = database.read.selectFrom('side_file').select('name').where('updated_at', '<', before);
  if ((await old.where(isPulled('writer')).limit(1).execute()).length === 0) return 0;
  return await database.write(async (transaction) => {
    const gone = await transaction
      .deleteFrom('side_file')
      .where('updated_at', '<', before)
      .where(isPulled('writer'))
      .executeTakeFirst();
    return Number(gone.numDeletedRows);
  });
}

interface IdRange {
  readonly after: number;
  readonly last: number;
}

async function contentIds(database: Database, after: number): Promise<number[]> {
  const rows = await database.read
    .selectFrom('content')
    .select('id')
    .where('id', '>', after)
    .orderBy('id')
    .limit(ROWS_A_PAGE)
    .execute();
  return rows.map(({ id }) => id);
}

/** Uploads that no narinfo claimed in time, and names of uploads whose path is gone. */
async function collectUploads(database: Database, { after, last }: IdRange, now: number): Promise<number> {
  const stale = await staleUploads(database.read, now)
    .where('nar_upload.content_id', '>', after)
    .where('nar_upload.content_id', '<=', last)
    .execute();
  if (stale.length === 0) return 0;
  return await database.write(async (transaction) => {
    const ids = stale.map(({ content_id }) => content_id);
    const still = await staleUploads(transaction, now).where('nar_upload.content_id', 'in', ids).execute();
    for (const { cache_id, file_name, writer } of still)
      await transaction
        .deleteFrom('nar_upload')
        .where('cache_id', '=', cache_id)
        .where('file_name', '=', file_name)
        .where('writer', '=', writer)
        .execute();
    return still.length;
  });
}

interface StaleUpload {
  cache_id: number;
  file_name: string;
  writer: string;
  content_id: number;
}

function staleUploads(
  db: Kysely<Schema>,
  now: number,
): SelectQueryBuilder<Schema, 'nar_upload', StaleUpload> {
  return db
    .selectFrom('nar_upload')
    .select(['nar_upload.cache_id', 'nar_upload.file_name', 'nar_upload.writer', 'nar_upload.content_id'])
    .where((where) =>
      where.or([
        where('nar_upload.expires_at', '<', now),
        where.and([
          where('nar_upload.expires_at', 'is', null),
          where.not(
            where.exists(
              where
                .selectFrom('store_path')
                .select('store_path.hash')
                .whereRef('store_path.content_id', '=', 'nar_upload.content_id')
                .whereRef('store_path.cache_id', '=', 'nar_upload.cache_id'),
            ),
          ),
        ]),
      ]),
    );
}

async function collectUnnamed(database: Database, { after, last }: IdRange): Promise<number[]> {
  const found = await unnamed(database.read)
    .where('content.id', '>', after)
    .where('content.id', '<=', last)
    .execute();
  if (found.length === 0) return [];
  return await database.write(async (transaction) => {
    const ids = found.map(({ id }) => id);
    const still = await unnamed(transaction).where('content.id', 'in', ids).execute();
    if (still.length > 0)
      await transaction
        .deleteFrom('content')
        .where(
          'id',
          'in',
          still.map(({ id }) => id),
        )
        .execute();
    return still.map(({ size }) => size);
  });
}

/** Contents without a path, an upload or a side file. */
function unnamed(db: Kysely<Schema>): SelectQueryBuilder<Schema, 'content', { id: number; size: number }> {
  return db
    .selectFrom('content')
    .select(['content.id', 'content.size'])
    .where((where) =>
      where.not(
        where.exists(
          where
            .selectFrom('store_path')
            .select('store_path.hash')
            .whereRef('store_path.content_id', '=', 'content.id'),
        ),
      ),
    )
    .where((where) =>
      where.not(
        where.exists(
          where
            .selectFrom('nar_upload')
            .select('nar_upload.file_name')
            .whereRef('nar_upload.content_id', '=', 'content.id'),
        ),
      ),
    )
    .where((where) =>
      where.not(
        where.exists(
          where
            .selectFrom('side_file')
            .select('side_file.name')
            .whereRef('side_file.content_id', '=', 'content.id'),
        ),
      ),
    );
}
