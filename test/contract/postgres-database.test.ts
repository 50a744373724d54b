// The PostgreSQL adapter against the Database contract on a real server, and what only several servers can get wrong.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { openPostgresDatabase } from '../../src/storage/postgres-database.ts';
import type { Database } from '../../src/storage/database.ts';
import { isCode } from '../../src/util/errors.ts';
import { databaseContract } from './database.contract.ts';
import { openPostgresServer } from './postgres-server.ts';

const server = await openPostgresServer();
after(async () => await server[Symbol.asyncDispose]());

databaseContract(
  'PostgresDatabase',
  async () => await server.createDatabase(),
  async (url) => await openPostgresDatabase({ url }),
);

test('openPostgresDatabase() lets several servers make the schema at once', async () => {
  const url = await server.createDatabase();
  const opened = await Promise.all([1, 2, 3].map(async () => await openPostgresDatabase({ url })));
  for (const database of opened) await database[Symbol.asyncDispose]();
});

test('PostgresDatabase reads and writes go on over a crash of the server', async () => {
  await using database = await openPostgresDatabase({ url: await server.createDatabase() });
  await count(database, 'before');
  const [, ...rows] = await Promise.all([
    server.crash(),
    ...Array.from({ length: 10 }, async () => await database.read.selectFrom('cache').selectAll().execute()),
  ]);
  assert.deepEqual(
    rows.map((all) => all.length),
    Array.from({ length: 10 }, () => 1),
  );
  await count(database, 'after');
  assert.equal((await database.read.selectFrom('cache').selectAll().execute()).length, 2);
});

test('PostgresDatabase outlives a crash while a transaction holds a connection and asks nothing', async () => {
  await using database = await openPostgresDatabase({ url: await server.createDatabase() });
  let crashed = false;
  await database.write(async (transaction) => {
    await transaction.selectFrom('cache').selectAll().execute();
    if (!crashed) {
      crashed = true;
      await server.crash();
    }
    const row = { name: 'once', is_public: 1, priority: 40, store_dir: '/s', closed: 1, created_at: 1 };
    await transaction.insertInto('cache').values(row).execute();
  });
  assert.equal((await database.read.selectFrom('cache').selectAll().execute()).length, 1);
});

test('openPostgresDatabase() names an unreachable server and never its password', async () => {
  const url = 'postgres://slipway@/none?host=%2Fnonexistent';
  await assert.rejects(openPostgresDatabase({ url, password: 'hunter2' }), (error) => {
    assert.ok(isCode(error, 'unavailable'));
    assert.doesNotMatch(`${error.message} ${error.next ?? ''}`, /hunter2/);
    return true;
  });
});

async function count(database: Database, name: string): Promise<void> {
  await database.write(
    async (transaction) =>
      await transaction
        .insertInto('cache')
        .values({ name, is_public: 1, priority: 40, store_dir: '/nix/store', closed: 1, created_at: 1 })
        .execute(),
  );
}
