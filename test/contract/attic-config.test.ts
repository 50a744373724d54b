// Attic's cache-config as its client uses it. What is compared was recorded from the real server, 0.1.0.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { generateSecretKey, parseSecretKey, publicKeyOf } from '../../src/nix/signature.ts';
import { AtticClient, ATTIC_KEY, atticPath, atticToken } from './attic-requests.ts';
import { issueToken, openCacheServer } from './cache-server.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-attic-config-'));
const server = await openCacheServer(join(folder, 'data'), { attic: [ATTIC_KEY] });
const all = { r: 1, w: 1, d: 1, cc: 1, cr: 1, cq: 1, cd: 1 };
const owner = new AtticClient(server, atticToken({ '*': all }));
const anonymous = new AtticClient(server);
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const config = (name: string): string => `/_api/v1/cache-config/${name}`;
const UNAUTHORIZED = '{"code":401,"error":"Unauthorized","message":"Unauthorized."}';
const FORBIDDEN =
  '{"code":403,"error":"AccessError","message":"Access error: User does not have permission to complete this action."}';
const NO_CACHE = '{"code":404,"error":"NoSuchCache","message":"The requested cache does not exist."}';

test('a cache is created once, and its configuration has the keys of Attic in its order', async () => {
  const made = await owner.create('one', { is_public: true });
  assert.deepEqual([made.status, made.text, made.type], [200, '', null]);
  const again = await owner.create('one');
  assert.equal(again.status, 400);
  assert.equal(again.text, '{"code":400,"error":"CacheAlreadyExists","message":"The cache already exists."}');
  const read = await owner.send('GET', config('one'));
  assert.equal(read.type, 'application/json');
  const [key] = await server.cache.keys.get('one');
  assert.ok(key);
  assert.equal(
    read.text,
    `{"substituter_endpoint":"${server.url}/one","api_endpoint":"${server.url}/","public_key":"${publicKeyOf(key)}","is_public":true,"store_dir":"/nix/store","priority":41,"upstream_cache_key_names":["cache.nixos.org-1"],"retention_period":"Global"}`,
  );
  assert.match(publicKeyOf(key), /^one:/);
  assert.equal((await anonymous.send('GET', '/one/attic-cache-info')).text, read.text);
  const info = await anonymous.send('GET', '/one/nix-cache-info');
  assert.equal(info.text, 'WantMassQuery: 1\nStoreDir: /nix/store\nPriority: 41\n');
  assert.equal(info.headers.get('x-attic-cache-visibility'), 'public');
});

test('the endpoints follow Host and X-Forwarded-Proto', async () => {
  await owner.create('proxied');
  const read = await owner.send('GET', config('proxied'), undefined, { 'x-forwarded-proto': 'https' });
  assert.ok(read.text.includes(`"api_endpoint":"${server.url.replace('http:', 'https:')}/"`));
});

test('a keypair of the client is taken, a broken one is refused', async () => {
  const key = generateSecretKey('mine');
  assert.equal((await owner.create('own-key', { keypair: { Keypair: key } })).status, 200);
  const read = await owner.send('GET', config('own-key'));
  assert.ok(read.text.includes(`"public_key":"${publicKeyOf(parseSecretKey(key))}"`));
  const broken = await owner.create('broken-key', { keypair: { Keypair: 'mine:AAAA' } });
  assert.equal(broken.status, 400);
  assert.equal((await owner.send('GET', config('broken-key'))).text, NO_CACHE);
});

test('whoever has no permission hears 401 whether a cache exists or not, whoever has some hears more', async () => {
  await owner.create('hidden');
  const stranger = new AtticClient(server, atticToken({ other: { r: 1 } }));
  for (const client of [stranger, anonymous])
    for (const name of ['hidden', 'absent']) {
      assert.equal((await client.send('GET', config(name))).text, UNAUTHORIZED);
      assert.equal((await client.send('PATCH', config(name), { priority: 1 })).text, UNAUTHORIZED);
      assert.equal((await client.send('DELETE', config(name))).text, UNAUTHORIZED);
      assert.equal((await client.create(name)).text, UNAUTHORIZED);
      const hashes = { cache: name, store_path_hashes: [] };
      assert.equal((await client.send('POST', '/_api/v1/get-missing-paths', hashes)).text, UNAUTHORIZED);
      const { info, nar } = await atticPath(name, 'x', Buffer.from('x'));
      assert.equal((await client.upload(info, nar)).text, UNAUTHORIZED);
      assert.equal((await client.upload(info, nar, true)).text, UNAUTHORIZED);
    }
  const reader = new AtticClient(server, atticToken({ '*': { r: 1 } }));
  assert.equal((await reader.send('GET', config('absent'))).text, NO_CACHE);
  assert.equal((await reader.send('DELETE', config('hidden'))).text, FORBIDDEN);
  assert.equal((await reader.create('new')).text, FORBIDDEN);
  await owner.create('open', { is_public: true });
  assert.equal((await anonymous.send('DELETE', config('open'))).text, FORBIDDEN);
});

test('of several patterns the very name counts, else the first that matches, and nothing is merged', async () => {
  await owner.create('team-a');
  await owner.create('team-b');
  const client = new AtticClient(server, atticToken({ 'team-*': { r: 1 }, '*': all, 'team-b': { cr: 1 } }));
  assert.equal((await client.send('PATCH', config('team-a'), { priority: 5 })).text, FORBIDDEN);
  assert.equal((await client.send('PATCH', config('team-b'), { priority: 5 })).status, 200);
  assert.equal((await client.send('GET', config('team-b'))).text, FORBIDDEN);
});

test('PATCH changes what it names and refuses to change nothing', async () => {
  await owner.create('changed');
  assert.equal(
    (await owner.send('PATCH', config('changed'), {})).text,
    '{"code":400,"error":"RequestError","message":"General request error: No modifiable fields were set."}',
  );
  const changes = {
    is_public: true,
    priority: 7,
    upstream_cache_key_names: [],
    retention_period: { Period: 86400 },
  };
  assert.equal((await owner.send('PATCH', config('changed'), changes)).status, 200);
  const read = JSON.parse((await owner.send('GET', config('changed'))).text) as Record<string, unknown>;
  assert.deepEqual({ ...read, ...changes }, read);
});

test('"Global", which the client always sends, neither resets a retention nor needs the permission for it', async () => {
  await owner.create('kept');
  await owner.send('PATCH', config('kept'), { retention_period: { Period: 60 } });
  const client = new AtticClient(server, atticToken({ kept: { cr: 1, r: 1 } }));
  const answer = await client.send('PATCH', config('kept'), { priority: 3, retention_period: 'Global' });
  assert.equal(answer.status, 200);
  assert.match(
    (await client.send('GET', config('kept'))).text,
    /"priority":3.*"retention_period":\{"Period":60\}/,
  );
  assert.equal((await client.send('PATCH', config('kept'), { retention_period: 'Global' })).text, FORBIDDEN);
  assert.equal((await owner.send('PATCH', config('kept'), { retention_period: 'Global' })).status, 200);
  assert.match((await client.send('GET', config('kept'))).text, /"retention_period":"Global"/);
});

test('a new keypair signs what is there already, and the old signature goes', async () => {
  await owner.create('rotated');
  const { info, nar } = await atticPath('rotated', 'rotated', Buffer.from('rotated'));
  assert.equal((await owner.upload(info, nar)).status, 200);
  const before = await owner.send('GET', `/rotated/${info.store_path_hash}.narinfo`);
  const key = generateSecretKey('rotated-2');
  assert.equal((await owner.send('PATCH', config('rotated'), { keypair: { Keypair: key } })).status, 200);
  const narinfo = await owner.send('GET', `/rotated/${info.store_path_hash}.narinfo`);
  assert.match(before.text, /^Sig: rotated:/m);
  assert.match(narinfo.text, /^Sig: rotated-2:/m);
  assert.doesNotMatch(narinfo.text, /^Sig: rotated:/m);
});

test('DELETE removes a cache; one made anew has another key', async () => {
  await owner.create('gone');
  const before = await owner.send('GET', config('gone'));
  assert.equal((await owner.send('DELETE', config('gone'))).status, 200);
  assert.equal((await owner.send('DELETE', config('gone'))).text, NO_CACHE);
  assert.equal((await owner.create('gone')).status, 200);
  assert.notEqual((await owner.send('GET', config('gone'))).text, before.text);
});

test('opaque tokens manage caches too', async () => {
  const client = new AtticClient(server, await issueToken(server, 'manage:mine-*', 'write:mine-*'));
  assert.equal((await client.create('mine-a')).status, 200);
  assert.equal((await client.create('yours')).text, UNAUTHORIZED);
  assert.equal((await client.send('DELETE', config('mine-a'))).status, 200);
});

test('bad requests get the answers of the real server', async () => {
  await owner.create('bad');
  const text = 'text/plain; charset=utf-8';
  const patch = async (body: string, type = 'application/json') =>
    await owner.send('PATCH', config('bad'), body, { 'content-type': type });
  const cases: [string, { status: number; type: string | null }, number, string | null][] = [
    ['wrong type', await patch('{"priority":"x"}'), 422, text],
    ['no JSON', await patch('{bad'), 400, text],
    ['not UTF-8 type', await patch('{"priority":1}', 'application/x-www-form-urlencoded'), 415, text],
    ['deep', await patch('['.repeat(20_000)), 400, text],
    ['long', await patch(`{"store_dir":"${'x'.repeat(100_000)}"}`), 413, 'application/json'],
    ['bad name', await owner.send('GET', config('-bad')), 400, text],
    ['reserved', await owner.create('api'), 400, text],
    ['overlay', await owner.send('GET', config('bad~x')), 400, text],
    ['unknown', await owner.send('GET', '/_api/v1/nothing'), 404, 'application/json'],
    ['method', await owner.send('DELETE', '/_api/v1/get-missing-paths'), 405, null],
    ['store', await owner.create('bad-store', { store_dir: '../x' }), 400, 'application/json'],
  ];
  for (const [what, answer, status, type] of cases)
    assert.deepEqual([answer.status, answer.type], [status, type], what);
});
