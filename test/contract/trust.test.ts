// Whose word counts: contributors fill overlays, rules publish what they hold, writers are revoked with all they wrote.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { findOrigins, listConflicts } from '../../src/cache/trust/provenance.ts';
import { planPromotion, Promoter } from '../../src/cache/trust/promotion.ts';
import { quarantineWriter } from '../../src/cache/trust/quarantine.ts';
import { fingerprint, parseNarInfo } from '../../src/nix/narinfo.ts';
import { parseHash } from '../../src/nix/hash.ts';
import {
  generateSecretKey,
  parsePublicKey,
  parseSecretKey,
  publicKeyOf,
  signText,
  verifyText,
} from '../../src/nix/signature.ts';
import { contentAddressedPath } from '../../src/nix/store-path.ts';
import { parseScope } from '../../src/auth/scope.ts';
import { openCacheServer } from './cache-server.ts';
import { narInfo, nix32, noise, pathNamed, testPath, Uploader, type TestPath } from './cache-uploads.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-trust-'));
const server = await openCacheServer(join(folder, 'data'));
const { caches } = server.cache;
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

interface Writer {
  readonly id: string;
  readonly at: (cache: string) => Uploader;
}

async function writer(...scopes: string[]): Promise<Writer> {
  const { info, token } = await server.tokens.create({ name: 'host', scopes: scopes.map(parseScope) });
  return { id: info.id, at: (cache) => new Uploader(`${server.url}/${cache}`, token) };
}

async function status(of: Writer, cache: string, path: TestPath): Promise<number> {
  return (await of.at(cache).get(`${path.hash}.narinfo`)).status;
}

async function published(path: TestPath, cache = 'main'): Promise<string | undefined> {
  const response = await fetch(`${server.url}/${cache}/${path.hash}.narinfo`);
  return response.status === 200 ? await response.text() : undefined;
}

test('what a contributor pushes is in its overlay, signed by another key, and nowhere else', async () => {
  const [pi, other, trusted] = [
    await writer('contribute:main'),
    await writer('contribute:main'),
    await writer('write:main'),
  ];
  const path = await testPath('own-build', Buffer.from('own'));
  assert.equal((await pi.at('main').push(path)).status, 200);
  assert.equal(await published(path), undefined);
  assert.equal(await status(other, 'main', path), 404);
  assert.equal(await status(pi, 'main', path), 200);
  const overlay = `main~${pi.id}`;
  for (const [who, expected] of [
    [pi, 200],
    [other, 401],
    [trusted, 200],
    [await writer('read:main'), 401],
    [await writer(`read:${overlay}`), 200],
    [await writer('contribute:*'), 401],
  ] as const)
    assert.equal(await status(who, overlay, path), expected);
  assert.equal((await fetch(`${server.url}/${overlay}/${path.hash}.narinfo`)).status, 401);
  const info = parseNarInfo(await (await pi.at(overlay).get(`${path.hash}.narinfo`)).text());
  const keyOf = async (cache: string) =>
    (await server.cache.keys.get(cache)).map((key) => parsePublicKey(publicKeyOf(key)));
  const signedBy = async (cache: string): Promise<boolean> => {
    const keys = await keyOf(cache);
    return info.signatures.some((signature) => verifyText(keys, fingerprint(info), signature));
  };
  assert.ok(await signedBy(overlay));
  assert.ok(!(await signedBy('main')));
  const nar = await pi.at(overlay).get(info.url);
  assert.equal(nar.status, 200);
});

test('nobody writes into the overlay of another, and readers do not write at all', async () => {
  const [pi, other] = [await writer('contribute:main'), await writer('contribute:main')];
  await pi.at('main').push(await testPath('first-of-pi', Buffer.from('x')));
  const path = await testPath('intruder', Buffer.from('x'));
  for (const who of [other, await writer('write:main'), await writer('read:*'), await writer('write:*')])
    assert.equal((await who.at(`main~${pi.id}`).push(path)).status, 403);
  assert.equal((await pi.at(`main~${pi.id}`).push(path)).status, 200);
  assert.equal((await pi.at('secret').push(path)).status, 401);
});

test('a trusted writer publishes its own build whatever a contributor has pushed before', async () => {
  const [pi, trusted] = [await writer('contribute:main'), await writer('write:main')];
  const [evil, good] = [
    await testPath('preseeded', Buffer.from('evil')),
    await testPath('preseeded', Buffer.from('good')),
  ];
  assert.equal((await pi.at('main').push(evil)).status, 200);
  assert.equal((await trusted.at('main').push(good)).status, 200);
  assert.match((await published(good)) ?? '', new RegExp(nix32(good.nar)));
});

test('a path whose address the server has computed is published whoever sends it', async () => {
  const pi = await writer('contribute:main');
  const contents = Buffer.from('a source');
  const plain = await testPath('source', contents);
  const storePath = contentAddressedPath({
    name: 'source',
    address: { method: 'flat', hash: parseHash(`sha256:${nix32(contents)}`) },
    references: [],
  });
  const path = { ...plain, storePath, hash: storePath.slice(11, 43) };
  assert.equal((await pi.at('main').push(path, { CA: `fixed:sha256:${nix32(contents)}` })).status, 200);
  assert.match((await published(path)) ?? '', /^Sig: main-1:/m);
  // Without its address, the same claim is only somebody's word.
  const text = Buffer.from('another source');
  const other = { ...(await testPath('source2', text)), ...pathNamed('source2') };
  assert.equal((await pi.at('main').push(other)).status, 200);
  assert.equal(await published(other), undefined);
});

test('a signature by an accepted key publishes; one by another key, or over other bytes, does not', async () => {
  const [build, stranger] = [
    parseSecretKey(generateSecretKey('build-1')),
    parseSecretKey(generateSecretKey('build-1')),
  ];
  await caches.configure('main', { acceptedKeys: [publicKeyOf(build)] });
  const pi = await writer('contribute:main');
  const signed = async (name: string, key: typeof build, over?: TestPath): Promise<TestPath> => {
    const path = await testPath(name, Buffer.from(name));
    const message = fingerprint(parseNarInfo(narInfo(over ?? path)));
    assert.equal((await pi.at('main').push(path, { Sig: signText(key, message) })).status, 200);
    return path;
  };
  const good = await signed('signed-well', build);
  assert.match((await published(good)) ?? '', /^Sig: build-1:.*\nSig: main-1:/m);
  assert.equal(await published(await signed('signed-by-namesake', stranger)), undefined);
  assert.equal(await published(await signed('signed-for-another', build, good)), undefined);
  await caches.configure('main', { acceptedKeys: [] });
});

test('agreement publishes once enough identities hold the same bytes, and never for differing ones', async () => {
  await caches.configure('main', { agreement: 2 });
  const [one, two, three] = [
    await writer('contribute:main'),
    await writer('contribute:main'),
    await writer('contribute:main'),
  ];
  const [path, other] = [
    await testPath('agreed', Buffer.from('same')),
    await testPath('agreed', Buffer.from('other')),
  ];
  await one.at('main').push(path);
  await one.at('main').push(path);
  await three.at('main').push(other);
  assert.equal(await published(path), undefined);
  await two.at('main').push(path);
  assert.match((await published(path)) ?? '', new RegExp(nix32(path.nar)));
  await caches.configure('main', { agreement: 0 });
});

test('an operator promotes a closure, references first', async () => {
  const pi = await writer('contribute:main');
  const lib = await testPath('promoted-lib', Buffer.from('lib'));
  const app = await testPath('promoted-app', Buffer.from('app'));
  await pi.at('main').push(lib);
  const pushed = await pi.at('main').push(app, { References: lib.storePath.slice('/nix/store/'.length) });
  assert.equal(pushed.status, 200, pushed.text);
  const [base, overlay] = [await caches.get('main'), await caches.get(`main~${pi.id}`)];
  const promoter = new Promoter(server.database, server.cache.keys);
  const by = { id: 'operator', name: 'operator', token: 'operator' };
  const alone = await promoter.promote({ base, overlay, hash: app.hash }, by, 'operator');
  assert.match(alone.kind === 'kept' ? alone.reason : '', /promoted-lib, which is not published/);
  const plan = await planPromotion(server.database, { base, overlay, hash: app.hash });
  assert.deepEqual(plan, [lib.hash, app.hash]);
  for (const hash of plan)
    assert.equal((await promoter.promote({ base, overlay, hash }, by, 'operator')).kind, 'promoted');
  const trusted = await writer('write:main');
  await trusted.at('main').get(`${app.hash}.narinfo`);
  const rows = await findOrigins(server.database, base, app.hash);
  assert.deepEqual(
    rows.map(({ cache, way, writer: who }) => [cache, way, who]),
    [
      [`main~${pi.id}`, 'push', pi.id],
      ['main', 'promoted:operator', 'operator'],
    ],
  );
});

test('conflicts name both sides', async () => {
  const [one, two] = [await writer('write:main'), await writer('write:main')];
  const [a, b] = [await testPath('disputed', Buffer.from('a')), await testPath('disputed', Buffer.from('b'))];
  await one.at('main').push(a);
  assert.equal((await two.at('main').push(b)).status, 409);
  const [conflict] = await listConflicts(server.database, await caches.get('main'));
  assert.deepEqual([conflict?.storePath, conflict?.holder, conflict?.writer], [a.storePath, one.id, two.id]);
  assert.equal(conflict?.offeredNarHash, `sha256:${nix32(b.nar)}`);
});

test('revoking a writer holds back what only it has written; others may write the path anew', async () => {
  const [bad, good] = [await writer('write:main'), await writer('write:main')];
  const [lonely, shared] = [
    await testPath('only-bad', Buffer.from('evil')),
    await testPath('shared', Buffer.from('s')),
  ];
  for (const path of [lonely, shared]) assert.equal((await bad.at('main').push(path)).status, 200);
  await good.at('main').push(shared);
  await bad.at('main').put(`log/${'0'.repeat(32)}-x.drv`, 'log of the bad one');
  assert.ok(await published(lonely));
  await server.tokens.revoke(bad.id);
  const result = await quarantineWriter(server.database, bad.id);
  assert.deepEqual(result, { held: [`main ${lonely.storePath}`], kept: 1, sideFiles: 1 });
  caches.forget('main');
  assert.equal(await published(lonely), undefined);
  assert.equal((await fetch(`${server.url}/main/nar/${nix32(lonely.nar)}.nar`)).status, 404);
  assert.equal((await fetch(`${server.url}/main/${lonely.url}`)).status, 404);
  assert.ok(await published(shared));
  assert.equal((await bad.at('main').push(lonely)).status, 401);
  const anew = await testPath('only-bad', Buffer.from('honest'));
  assert.equal((await good.at('main').push(anew)).status, 200);
  assert.match((await published(anew)) ?? '', new RegExp(nix32(anew.nar)));
  assert.deepEqual(await quarantineWriter(server.database, bad.id), { held: [], kept: 0, sideFiles: 0 });
});

test('a quota refuses what does not fit, in overlays too', async () => {
  await caches.create({
    name: 'small',
    isPublic: true,
    priority: 1,
    storeDir: '/nix/store',
    closed: false,
    quotaBytes: 1_000,
  });
  const [trusted, pi] = [await writer('write:small'), await writer('contribute:small')];
  for (const who of [trusted, pi]) {
    assert.equal((await who.at('small').push(await testPath('fits', Buffer.alloc(500)))).status, 200);
    const refused = await who.at('small').push(await testPath('too-much', Buffer.alloc(600)));
    assert.equal(refused.status, 413, refused.text);
    assert.match(refused.text, /may hold 1000 bytes/);
  }
});

test('a quota counts what is no path, too: files beside them, and NARs that no narinfo claims', async () => {
  await caches.create({
    name: 'tiny',
    isPublic: true,
    priority: 1,
    storeDir: '/nix/store',
    closed: false,
    quotaBytes: 1_000,
  });
  const pi = (await writer('contribute:tiny')).at('tiny');
  const large = await testPath('larger-than-all', Buffer.alloc(2_000));
  const refused = await pi.put(large.url, large.file);
  assert.deepEqual([refused.status, /may hold 1000 bytes/.test(refused.text)], [400, true]);
  const waiting = await Promise.all(
    [1, 2, 3].map(async (n) => await testPath(`waits-${n}`, noise(600, `${n}`))),
  );
  const [first, second, third] = waiting.map(
    ({ url, file }) =>
      async () =>
        (await pi.put(url, file)).status,
  );
  assert.deepEqual([await first?.(), await second?.()], [200, 200]);
  assert.equal(await third?.(), 413);
  const [one, two] = ['log-1.drv', 'log-2.drv'].map((name) => `log/${pathNamed(name).storePath.slice(11)}`);
  assert.equal((await pi.put(one ?? '', Buffer.alloc(1_500))).status, 200);
  assert.equal((await pi.put(two ?? '', 'x')).status, 413);
});
