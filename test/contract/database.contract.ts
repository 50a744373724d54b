// What every Database must do. An adapter's test calls this with a way to open the same database again and again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'kysely';
import type { Database } from '../../src/storage/database.ts';

/** `place()` names a new, empty database; `open` opens it, making the schema when it is new. */
export function databaseContract(
  name: string,
  place: () => Promise<string>,
  open: (place: string) => Promise<Database>,
): void {
  const check = (fact: string, work: (database: Database, at: string) => Promise<void>): void => {
    test(`${name} ${fact}`, async () => {
      const at = await place();
      await using database = await open(at);
      await work(database, at);
    });
  };

  check('reads what a finished transaction wrote', async (database) => {
    const id = await addCache(database, 'main');
    const rows = await database.read.selectFrom('cache').select(['id', 'name']).execute();
    assert.deepEqual(
      rows.map((row) => ({ ...row })),
      [{ id, name: 'main' }],
    );
  });

  check('undoes a transaction that fails half way', async (database) => {
    const failing = database.write(async (transaction) => {
      await transaction.insertInto('cache').values(cacheRow('lost')).execute();
      throw new Error('half way');
    });
    await assert.rejects(failing, /half way/);
    assert.deepEqual(await database.read.selectFrom('cache').selectAll().execute(), []);
  });

  check('lets readers go on while a transaction is open, without seeing it', async (database) => {
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    const writing = database.write(async (transaction) => {
      await transaction.insertInto('cache').values(cacheRow('slow')).execute();
      await held;
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal((await database.read.selectFrom('cache').selectAll().execute()).length, 0);
    release();
    await writing;
    assert.equal((await database.read.selectFrom('cache').selectAll().execute()).length, 1);
  });

  check('runs concurrent writers one after another, losing none', async (database) => {
    const names = Array.from({ length: 20 }, (_, index) => `cache-${index}`);
    await Promise.all(names.map(async (cache) => await addCache(database, cache)));
    assert.equal((await database.read.selectFrom('cache').selectAll().execute()).length, 20);
  });

  check('holds bytes, large numbers and nulls as they were', async (database) => {
    const id = 'abc';
    const secret_hash = new Uint8Array([0, 255, 1, 128]);
    const created_at = 1_800_000_000_000;
    await database.write(
      async (transaction) =>
        await transaction
          .insertInto('access_token')
          .values({
            id,
            name: 'ü',
            secret_hash,
            scopes: '',
            created_at,
            expires_at: null,
            revoked_at: null,
            last_used_at: 7,
          })
          .execute(),
    );
    const row = await database.read.selectFrom('access_token').selectAll().executeTakeFirstOrThrow();
    assert.deepEqual([...row.secret_hash], [...secret_hash]);
    assert.equal(row.created_at, created_at);
    assert.equal(row.expires_at, null);
    assert.equal(row.name, 'ü');
  });

  check('keeps foreign keys', async (database) => {
    const orphan = database.write(
      async (transaction) =>
        await transaction
          .insertInto('chunk')
          .values({
            hash: new Uint8Array(32),
            pack_id: 999,
            frame_offset: 0,
            frame_length: 1,
            frame_crc: 0,
            frame_raw_length: 1,
            chunk_offset: 0,
            raw_length: 1,
            damaged_at: null,
          })
          .execute(),
    );
    await assert.rejects(orphan);
  });

  check('takes chunks over from before they shared frames', async (database, at) => {
    const hash = new Uint8Array(32).fill(7);
    await database.write(async (transaction) => {
      const { id } = await transaction
        .insertInto('pack')
        .values({ blob_key: 'pack/old', size: 100, created_at: 1 })
        .returning('id')
        .executeTakeFirstOrThrow();
      for (const column of ['frame_raw_length', 'chunk_offset'])
        await transaction.schema.alterTable('chunk').dropColumn(column).execute();
      await transaction.schema.alterTable('pack').dropColumn('unsettled_bytes').execute();
      const place = sql`${hash}, ${id}, 16, 40, 9, 90`;
      await sql`insert into chunk (hash, pack_id, frame_offset, frame_length, frame_crc, raw_length)
                values (${place})`.execute(transaction);
      await sql`delete from kysely_migration where name >= '0011-frames'`.execute(transaction);
    });
    await using again = await open(at);
    const row = await again.read.selectFrom('chunk').selectAll().executeTakeFirstOrThrow();
    assert.deepEqual([row.raw_length, row.frame_raw_length, row.chunk_offset], [90, 90, 0]);
  });

  check('lets one of many win who decide by what they read, from two handles', async (database, at) => {
    await using second = await open(at);
    const claims = Array.from({ length: 16 }, (_, index) =>
      claim([database, second][index % 2] ?? database, index),
    );
    const won = (await Promise.all(claims)).filter(Boolean);
    assert.equal(won.length, 1);
    assert.equal((await database.read.selectFrom('cache').selectAll().execute()).length, 1);
  });

  check('lets concurrent writers raise one number without losing a step', async (database, at) => {
    await using second = await open(at);
    await addCache(database, 'main');
    await Promise.all(
      Array.from({ length: 30 }, (_, index) => raise([database, second][index % 2] ?? database)),
    );
    const row = await database.read.selectFrom('cache').select('priority').executeTakeFirstOrThrow();
    assert.equal(row.priority, 70);
  });

  check('fails a second row of the same key, for good', async (database) => {
    await addCache(database, 'main');
    await assert.rejects(addCache(database, 'main'));
    assert.equal((await database.read.selectFrom('cache').selectAll().execute()).length, 1);
  });

  check('opens again with its rows, and from two handles at once', async (database, at) => {
    await addCache(database, 'main');
    await using second = await open(at);
    assert.equal((await second.read.selectFrom('cache').selectAll().execute()).length, 1);
    await Promise.all([addCache(second, 'a'), addCache(database, 'b')]);
    assert.equal((await database.read.selectFrom('cache').selectAll().execute()).length, 3);
  });
}

/** Adds a cache only when there is none: right only if nobody writes between the look and the write. */
async function claim(database: Database, index: number): Promise<boolean> {
  return await database.write(async (transaction) => {
    const found = await transaction.selectFrom('cache').select('id').execute();
    if (found.length > 0) return false;
    await transaction
      .insertInto('cache')
      .values(cacheRow(`claim-${index}`))
      .execute();
    return true;
  });
}

async function raise(database: Database): Promise<void> {
  await database.write(async (transaction) => {
    const { priority } = await transaction.selectFrom('cache').select('priority').executeTakeFirstOrThrow();
    await transaction
      .updateTable('cache')
      .set({ priority: priority + 1 })
      .execute();
  });
}

function cacheRow(name: string) {
  return { name, is_public: 1, priority: 40, store_dir: '/nix/store', closed: 1, created_at: 1 };
}

async function addCache(database: Database, name: string): Promise<number> {
  return await database.write(async (transaction) => {
    const row = await transaction
      .insertInto('cache')
      .values(cacheRow(name))
      .returning('id')
      .executeTakeFirstOrThrow();
    return row.id;
  });
}
