// xz, which plain `nix copy --to` writes: with the real xz, and with streams that mean harm.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { exec } from '../../src/effects/exec.ts';
import {
  fileNode,
  narInfo,
  narOf,
  nix32,
  noise,
  pathNamed,
  Uploader,
  type TestPath,
} from '../contract/cache-uploads.ts';
import { issueToken, openCacheServer, temporaryFolder } from './cache-scene.ts';

const folder = temporaryFolder('cache-xz');
const MOST = 40_000_000;
const server = await openCacheServer(join(folder.path, 'data'), { maxNarSize: MOST });
const token = await issueToken(server, 'write:main');
const uploader = new Uploader(`${server.url}/main`, token);
after(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

async function xz(bytes: Buffer, ...options: string[]): Promise<Buffer> {
  const { code, stdout } = await exec(['xz', '-c', ...options], { input: bytes, timeoutMs: 60_000 });
  assert.equal(code, 0);
  return stdout;
}

async function xzPath(
  name: string,
  contents: Buffer,
  pack: (nar: Buffer) => Promise<Buffer>,
): Promise<TestPath> {
  const nar = await narOf(fileNode(contents));
  const file = await pack(nar);
  return { nar, file, url: `nar/${nix32(file)}.nar.xz`, ...pathNamed(name) };
}

test('PUT takes several xz streams in one file, and streams of several blocks', async () => {
  const contents = noise(3_000_000, 'multi');
  const ways = {
    streams: async (nar: Buffer) =>
      Buffer.concat([
        await xz(nar.subarray(0, 1_000_001)),
        Buffer.alloc(4),
        await xz(nar.subarray(1_000_001)),
      ]),
    blocks: async (nar: Buffer) => await xz(nar, '--block-size=200KiB', '-1'),
    best: async (nar: Buffer) => await xz(nar, '-9e'),
  };
  for (const [name, pack] of Object.entries(ways)) {
    const path = await xzPath(name, Buffer.concat([contents, Buffer.from(name)]), pack);
    assert.deepEqual(await uploader.push(path, { Compression: 'xz' }), { status: 200, text: '' });
    const served = await uploader.get(`nar/${nix32(path.nar)}.nar`);
    assert.ok(Buffer.from(await served.arrayBuffer()).equals(path.nar));
  }
});

test('GET gives an .xz file that the real xz takes, whole and by ranges, where one was uploaded', async () => {
  const path = await xzPath('returned', noise(200_000, 'returned'), xz);
  assert.equal((await uploader.push(path, { Compression: 'xz' })).status, 200);
  const whole = await uploader.get(path.url);
  const file = Buffer.from(await whole.arrayBuffer());
  assert.equal(whole.headers.get('content-length'), String(file.length));
  const { code, stdout } = await exec(['xz', '-dc'], { input: file, timeoutMs: 60_000 });
  assert.equal(code, 0);
  assert.ok(stdout.equals(path.nar));
  for (const start of [1, 25, 65_563, 150_000, file.length - 1]) {
    const rest = await uploader.get(path.url, { range: `bytes=${start}-` });
    assert.equal(rest.status, 206);
    assert.ok(Buffer.from(await rest.arrayBuffer()).equals(file.subarray(start)), `from ${start}`);
  }
  const head = await uploader.get(path.url, {}, 'HEAD');
  assert.equal(head.headers.get('content-length'), String(file.length));
});

test('PUT refuses xz that is damaged, cut, or no xz at all, and stores nothing', async () => {
  const good = await xz(await narOf(fileNode(noise(200_000, 'good'))));
  const damaged = Buffer.from(good);
  damaged[100_000] = (damaged[100_000] ?? 0) ^ 1;
  const files = {
    damaged,
    cut: good.subarray(0, -1),
    none: Buffer.from('this is no xz'),
    empty: Buffer.alloc(0),
  };
  for (const [name, file] of Object.entries(files)) {
    const url = `nar/${nix32(file)}.nar.xz`;
    const answer = await uploader.put(url, file);
    assert.equal(answer.status, 400, name);
    assert.match(answer.text, /xz stream is broken/, name);
    assert.equal((await uploader.get(url, {}, 'HEAD')).status, 404, name);
  }
});

/** Each of the files is small enough, all of them are not. */
async function* zeros() {
  for (let n = 0; n < 10; n++)
    yield { name: `zeros-${n}`, node: fileNode(await Promise.resolve(Buffer.alloc(30_000_000))) };
}

test('PUT refuses an xz bomb once it unpacks to more than a NAR may have, without holding it', async () => {
  const nar = await narOf({ type: 'directory', entries: zeros });
  const path: TestPath = { nar, file: await xz(nar), url: '', ...pathNamed('bomb') };
  assert.ok(path.file.length < 100_000);
  const before = process.memoryUsage().rss;
  const answer = await uploader.put(`nar/${nix32(path.file)}.nar.xz`, path.file);
  assert.equal(answer.status, 400);
  assert.match(answer.text, /larger than 40000000 bytes/);
  assert.ok(process.memoryUsage().rss - before < 200e6);
  assert.notEqual((await uploader.put(`${path.hash}.narinfo`, narInfo(path))).status, 200);
});

test('xz uploads side by side do not mix', async () => {
  const paths = await Promise.all(
    Array.from({ length: 12 }, async (_, n) => await xzPath(`side-${n}`, noise(150_000, `side ${n}`), xz)),
  );
  const answers = await Promise.all(
    paths.map(async (path) => await uploader.push(path, { Compression: 'xz' })),
  );
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
  for (const path of paths) {
    const served = Buffer.from(await (await uploader.get(`nar/${nix32(path.nar)}.nar`)).arrayBuffer());
    assert.equal(
      createHash('sha256').update(served).digest('hex'),
      createHash('sha256').update(path.nar).digest('hex'),
    );
  }
});
