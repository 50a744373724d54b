// Several jobs push the same path in the same moment, each by another door: with equal bytes all of them have pushed it, with
// different ones the first has, and the others hear it.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { AtticClient, ATTIC_KEY, atticPath, atticToken } from './attic-requests.ts';
import { issueToken, openCacheServer } from './cache-server.ts';
import { noise, testPath, Uploader, type TestPath } from './cache-uploads.ts';
import { BundleSender, wholeBundle } from './upload-bundles.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-same-path-'));
const server = await openCacheServer(join(folder, 'data'), { attic: [ATTIC_KEY] });
const token = await issueToken(server, 'write:main');
const nix = new Uploader(`${server.url}/main`, token);
const slipway = new BundleSender(server.url, 'main', token);
const attic = new AtticClient(server, atticToken({ main: { r: 1, w: 1 } }));
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

type Door = (name: string, contents: Buffer) => Promise<number>;

const DOORS: readonly Door[] = [
  async (name, contents) => (await nix.push(await testPath(name, contents))).status,
  async (name, contents) => (await slipway.send(await wholeBundle(await testPath(name, contents)))).status,
  async (name, contents) => {
    const { info, nar } = await atticPath('main', name, contents);
    return (await attic.upload(info, nar)).status;
  },
];

/** `contents[n]` go through a door each, all at once. */
async function pushAtOnce(name: string, contents: readonly Buffer[]): Promise<number[]> {
  return await Promise.all(
    contents.map(async (one, n) => await (DOORS[n % DOORS.length] as Door)(name, one)),
  );
}

async function servedNar({ hash }: TestPath): Promise<Buffer> {
  const narinfo = await (await nix.get(`${hash}.narinfo`)).text();
  const plain = /^URL: (.*)\.zst$/m.exec(narinfo)?.[1] ?? '';
  return Buffer.from(await (await nix.get(plain)).arrayBuffer());
}

async function conflictsOf({ storePath }: TestPath): Promise<number> {
  const rows = await server.database.read.selectFrom('path_conflict').select('store_path').execute();
  return rows.filter(({ store_path }) => store_path === storePath).length;
}

test('equal bytes: everybody has pushed it, and no conflict is recorded', async () => {
  for (const round of [1, 2]) {
    const contents = noise(200_000, `equal ${round}`);
    const path = await testPath(`equal-${round}`, contents);
    const statuses = await pushAtOnce(
      `equal-${round}`,
      Array.from({ length: 9 }, () => contents),
    );
    assert.deepEqual(new Set(statuses), new Set([200]));
    assert.ok((await servedNar(path)).equals(path.nar));
    assert.equal(await conflictsOf(path), 0);
  }
});

test('different bytes: one has pushed it, the others get 409, and what is served is one of them whole', async () => {
  for (const round of [1, 2]) {
    const name = `unequal-${round}`;
    // They share most of their chunks, of which each upload counts on those of the others.
    const shared = noise(300_000, `unequal ${round}`);
    const contents = Array.from({ length: 6 }, (_, n) => Buffer.concat([shared, noise(100_000, `own ${n}`)]));
    const statuses = await pushAtOnce(name, contents);
    assert.deepEqual(
      statuses.toSorted((a, b) => a - b),
      [200, 409, 409, 409, 409, 409],
    );
    const winner = await testPath(name, contents[statuses.indexOf(200)] as Buffer);
    assert.ok((await servedNar(winner)).equals(winner.nar));
    assert.equal(await conflictsOf(winner), 5);
  }
});
