import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openSqliteDatabase } from '../storage/sqlite-database.ts';
import { isCode } from '../util/errors.ts';
import { parseScope } from './scope.ts';
import { openTokenRegistry } from './token-registry.ts';

const directory = mkdtempSync(join(tmpdir(), 'slipway-tokens-'));
const database = await openSqliteDatabase(join(directory, 'slipway.db'));
let now = 1_000;
const registry = openTokenRegistry(database, () => now);
after(async () => {
  await registry[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

const issue = async (expiresAt?: number) =>
  await registry.create({
    name: 'ci',
    scopes: [parseScope('write:main')],
    ...(expiresAt === undefined ? {} : { expiresAt }),
  });

test('TokenRegistry findCaller() knows a token by its secret', async () => {
  const { info, token } = await issue();
  const caller = await registry.findCaller(`Bearer ${token}`);
  assert.equal(caller?.id, info.id);
  assert.deepEqual(caller.scopes, [parseScope('write:main')]);
  assert.equal(await registry.findCaller(undefined), undefined);
});

test('TokenRegistry findCaller() refuses a right id with a wrong secret', async () => {
  const [one, two] = [await issue(), await issue()];
  const mixed = `slw_${one.info.id}_${two.token.split('_')[2] ?? ''}`;
  assert.equal(await registry.findCaller(`Bearer ${mixed}`), undefined);
});

test('TokenRegistry findCaller() refuses an expired and a revoked token', async () => {
  const short = await issue(now + 50);
  assert.ok(await registry.findCaller(`Bearer ${short.token}`));
  now += 50;
  assert.equal(await registry.findCaller(`Bearer ${short.token}`), undefined);
  const revoked = await issue();
  await registry.revoke(revoked.info.id);
  await registry.revoke(revoked.info.id);
  assert.equal(await registry.findCaller(`Bearer ${revoked.token}`), undefined);
});

test('TokenRegistry revoke() says so when there is no such token', async () => {
  await assert.rejects(registry.revoke('nothere'), (error) => isCode(error, 'not_found'));
});

test('TokenRegistry list() shows last use and never a secret', async () => {
  const { info, token } = await issue();
  now += 7;
  await registry.findCaller(`Bearer ${token}`);
  const listed = await registry.list();
  assert.equal(listed.find(({ id }) => id === info.id)?.lastUsedAt, now);
  assert.ok(!JSON.stringify(listed).includes(token.split('_')[2] ?? 'x'));
});

test('TokenRegistry create() refuses a token that could do nothing', async () => {
  await assert.rejects(registry.create({ name: 'x', scopes: [] }), (error) => isCode(error, 'invalid'));
});
