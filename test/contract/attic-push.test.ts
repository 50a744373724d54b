// Pushing as Attic's client does: get-missing-paths, then upload-path with header or preamble; and what is refused.
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ATTIC_CLAIM, parseAtticKey } from '../../src/auth/attic-token.ts';
import { signJwt } from '../../src/auth/json-web-token.ts';
import { AtticClient, ATTIC_KEY, atticPath, atticToken } from './attic-requests.ts';
import { issueToken, openCacheServer } from './cache-server.ts';
import { noise, pathNamed } from './cache-uploads.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-attic-push-'));
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const pem = Buffer.from(rsa.privateKey.export({ type: 'pkcs1', format: 'pem' })).toString('base64');
const rsaKey = { key: parseAtticKey('RS256', pem), issuer: 'https://idp', audiences: ['slipway', 'attic'] };
const server = await openCacheServer(join(folder, 'data'), {
  attic: [ATTIC_KEY, rsaKey],
  maxNarSize: 20_000_000,
});
const pusher = new AtticClient(server, atticToken({ main: { r: 1, w: 1 } }));
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const missing = async (client: AtticClient, hashes: readonly string[]) =>
  await client.send('POST', '/_api/v1/get-missing-paths', { cache: 'main', store_path_hashes: hashes });

test('get-missing-paths answers each missing hash once', async () => {
  const { info, nar } = await atticPath('main', 'present', Buffer.from('present'));
  assert.equal((await pusher.upload(info, nar)).status, 200);
  const absent = pathNamed('absent').hash;
  const answer = await missing(pusher, [absent, info.store_path_hash, absent]);
  assert.equal(answer.text, `{"missing_paths":["${absent}"]}`);
  const many = Array.from({ length: 3_000 }, (_, n) => pathNamed(`many-${n}`).hash);
  const { missing_paths } = JSON.parse((await missing(pusher, many)).text) as { missing_paths: string[] };
  assert.deepEqual(missing_paths.toSorted(), many.toSorted());
  assert.equal((await missing(pusher, ['short'])).status, 422);
});

async function ask(client: AtticClient, body: string) {
  return await client.send('POST', '/_api/v1/get-missing-paths', body, {
    'content-type': 'application/json',
  });
}

test('a question that would take seconds to parse is refused before that, and from strangers not even read', async () => {
  const bomb = `{"cache":"main","store_path_hashes":[${'{},'.repeat(5_000_000)}1]}`;
  const before = process.memoryUsage().rss;
  const refused = await ask(pusher, bomb);
  assert.deepEqual([refused.status, /too many lists/.test(refused.text)], [400, true]);
  assert.ok(process.memoryUsage().rss - before < 200e6);
  assert.equal((await ask(new AtticClient(server), '{bad')).status, 401);
});

test('a path is uploaded with its description in a header or in front of the body', async () => {
  for (const preamble of [false, true]) {
    const contents = noise(700_000, `form ${preamble}`);
    const { info, nar } = await atticPath('main', `form-${preamble}`, contents, { system: 'x86_64-linux' });
    const answer = await pusher.upload(info, nar, preamble);
    assert.equal(answer.status, 200, answer.text);
    assert.match(answer.text, /^\{"kind":"Uploaded","file_size":\d+,"frac_deduplicated":null\}$/);
    const narinfo = await pusher.send('GET', `/main/${info.store_path_hash}.narinfo`);
    assert.match(narinfo.text, /^System: x86_64-linux$/m);
    const url = /^URL: (.*)\.zst$/m.exec(narinfo.text)?.[1] ?? '';
    const plain = await fetch(`${server.url}/main/${url}`);
    assert.ok(Buffer.from(await plain.arrayBuffer()).equals(nar));
    const again = await pusher.upload(info, nar, preamble);
    assert.equal(again.text, '{"kind":"Deduplicated","frac_deduplicated":null}');
  }
});

test('paths come in any order: a reference may follow later', async () => {
  const lib = await atticPath('main', 'order-lib', Buffer.from('lib'));
  const libPath = pathNamed('order-lib').storePath.slice('/nix/store/'.length);
  const app = await atticPath('main', 'order-app', Buffer.from('app'), { references: [libPath] });
  assert.equal((await pusher.upload(app.info, app.nar)).status, 200);
  assert.equal((await pusher.upload(lib.info, lib.nar)).status, 200);
});

test('a NAR that is not what its description says is refused and leaves nothing', async () => {
  const { info, nar } = await atticPath('main', 'lies', noise(200_000, 'lies'));
  const bad = '{"code":400,"error":"RequestError","message":"General request error: Bad NAR Hash or Size"}';
  const other = (await atticPath('main', 'x', Buffer.from('other'))).info['nar_hash'];
  assert.equal((await pusher.upload({ ...info, nar_hash: other }, nar)).text, bad);
  assert.equal((await pusher.upload({ ...info, nar_size: nar.length - 8 }, nar)).status, 400);
  assert.equal((await pusher.upload({ ...info, nar_size: nar.length + 8 }, nar)).status, 400);
  assert.equal((await pusher.upload(info, nar.subarray(0, -8))).status, 400);
  assert.equal((await pusher.upload(info, Buffer.concat([nar, Buffer.alloc(8)]))).text, bad);
  assert.equal((await pusher.upload({ ...info, nar_size: 2 ** 40 }, nar)).status, 413);
  assert.equal((await pusher.send('GET', `/main/${info.store_path_hash}.narinfo`)).status, 404);
  assert.equal((await pusher.upload(info, nar)).status, 200);
});

test('a description that cannot be is refused', async () => {
  const { info, nar } = await atticPath('main', 'described', Buffer.from('described'));
  const lies: Record<string, Record<string, unknown>> = {
    'another hash part': { store_path_hash: pathNamed('other').hash },
    'another store': { store_path: '/gnu/store/x' },
    'a bad reference': { references: ['../../etc/passwd'] },
    'a line break in a signature': { sigs: ['x:y\nURL: http://evil'] },
    'a line break in the system': { system: 'x\nSig: y' },
    'a false content address': { ca: `fixed:r:${String(info['nar_hash'])}` },
    'an MD5': { nar_hash: `md5:${'0'.repeat(32)}` },
    'a negative size': { nar_size: -1 },
    'no references': { references: null },
  };
  for (const [what, changes] of Object.entries(lies)) {
    const answer = await pusher.upload({ ...info, ...changes }, nar);
    assert.equal(answer.status, 400, `${what}: ${answer.text}`);
    assert.match(answer.text, /"error":"RequestError"/, what);
  }
});

async function put(headers: Record<string, string>): Promise<string> {
  return (await pusher.send('PUT', '/_api/v1/upload-path', 'x', headers)).text;
}

function error(message: string): string {
  return `{"code":400,"error":"RequestError","message":"General request error: ${message}"}`;
}

test('broken descriptions get the answers of the real server', async () => {
  const size = 'X-Attic-Nar-Info-Preamble-Size';
  assert.equal(await put({}), error('X-Attic-Nar-Info must be set'));
  assert.equal(await put({ [size]: 'abc' }), error(`${size} must be a valid unsigned integer`));
  assert.equal(await put({ [size]: '5' }), error("Upload info doesn't match specified size"));
  assert.equal(await put({ [size]: '99999999' }), error('Upload info is too large'));
  assert.match(await put({ 'x-attic-nar-info': '{}' }), /RequestError/);
});

test('of two descriptions the one in front of the body counts', async () => {
  const { info, nar } = await atticPath('main', 'both', Buffer.from('both'));
  const text = Buffer.from(JSON.stringify(info));
  const answer = await pusher.send('PUT', '/_api/v1/upload-path', Buffer.concat([text, nar]), {
    'x-attic-nar-info': '{"cache":"secret"}',
    'x-attic-nar-info-preamble-size': String(text.length),
  });
  assert.equal(answer.status, 200, answer.text);
});

test('other bytes for a path that is there are 409, not an overwrite', async () => {
  const first = await atticPath('main', 'first', Buffer.from('first'));
  const second = await atticPath('main', 'first', Buffer.from('second'));
  await pusher.upload(first.info, first.nar);
  const answer = await pusher.upload(second.info, second.nar);
  assert.deepEqual([answer.status, answer.text.includes('RequestError')], [409, true]);
});

test('forged, expired, early, foreign and malformed tokens are no tokens', async () => {
  const hashes = { cache: 'secret', store_path_hashes: [] };
  const grants = { secret: { w: 1 } };
  const now = Math.floor(Date.now() / 1000);
  const good = atticToken(grants);
  const [head = '', body = '', tail = ''] = good.split('.');
  const none = Buffer.from('{"alg":"none"}').toString('base64url');
  const publicPem = createPublicKey(rsa.privateKey).export({ type: 'spki', format: 'pem' });
  const claims = { exp: now + 60, [ATTIC_CLAIM]: { caches: grants } };
  const refused = {
    forged: `${head}.${Buffer.from(JSON.stringify({ exp: now + 60, [ATTIC_CLAIM]: { caches: { '*': { w: 1 } } } })).toString('base64url')}.${tail}`,
    'no signature': `${none}.${body}.`,
    'algorithm none': `${none}.${body}.${tail}`,
    'public key as secret': signJwt(claims, { algorithm: 'HS256', secret: Buffer.from(publicPem) }),
    expired: atticToken(grants, { exp: now - 100 }),
    early: atticToken(grants, { nbf: now + 1000 }),
    'time as text': atticToken(grants, { exp: '99999999999' }),
    'true for 1': atticToken({ secret: { w: true } }),
    'bad pattern': atticToken({ 'se cret': { w: 1 }, ...grants }),
    'other cache': atticToken({ secret2: { w: 1 } }),
    'no claim': atticToken({}, { [ATTIC_CLAIM]: null }),
    'wrong issuer': signJwt({ ...claims, iss: 'https://evil', aud: 'attic' }, rsaKey.key),
    'wrong audience': signJwt({ ...claims, iss: 'https://idp', aud: 'other' }, rsaKey.key),
    long: atticToken(grants, { sub: 'x'.repeat(9000) }),
    deep: atticToken(grants, { deep: JSON.parse(`${'['.repeat(50)}${']'.repeat(50)}`) as unknown }),
  };
  const send = async (token: string) =>
    (await new AtticClient(server, token).send('POST', '/_api/v1/get-missing-paths', hashes)).status;
  for (const [what, token] of Object.entries(refused)) assert.equal(await send(token), 401, what);
  assert.equal(await send(good), 200);
  assert.equal(await send(signJwt({ ...claims, iss: 'https://idp', aud: ['x', 'attic'] }, rsaKey.key)), 200);
});

test('a token of ours in the form of Attic is listed and can be revoked', async () => {
  const scopes = [{ kind: 'attic', pattern: 'secret', permissions: ['r', 'w'] }] as const;
  const { token, info } = await server.tokens.createAttic({ name: 'laptop', scopes }, ATTIC_KEY);
  const client = new AtticClient(server, token);
  const hashes = { cache: 'secret', store_path_hashes: [] };
  assert.equal((await client.send('POST', '/_api/v1/get-missing-paths', hashes)).status, 200);
  assert.ok((await server.tokens.list()).some(({ id }) => id === info.id));
  await server.tokens.revoke(info.id);
  assert.equal((await client.send('POST', '/_api/v1/get-missing-paths', hashes)).status, 401);
});

test('an opaque token pushes as well, and Basic carries either kind', async () => {
  const token = await issueToken(server, 'write:main');
  const client = new AtticClient(server, token);
  assert.equal((await missing(client, [])).text, '{"missing_paths":[]}');
  const basic = `Basic ${Buffer.from(`anything:${atticToken({ secret: { r: 1 } })}`).toString('base64')}`;
  const info = await new AtticClient(server).send('GET', '/secret/nix-cache-info', undefined, {
    authorization: basic,
  });
  assert.equal(info.status, 200);
  assert.equal(info.headers.get('x-attic-cache-visibility'), null);
});
