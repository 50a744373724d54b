// The quick way for narinfos that memory knows says exactly what the long way says.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { issueToken, openCacheServer } from './cache-server.ts';
import { testPath, Uploader } from './cache-uploads.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-quick-'));
const server = await openCacheServer(join(folder, 'data'));
const writer = new Uploader(`${server.url}/main`, await issueToken(server, 'write:main', 'write:secret'));
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

async function answerOf(url: string, headers: Record<string, string> = {}): Promise<unknown> {
  const response = await fetch(`${server.url}${url}`, { headers });
  const fields = Object.fromEntries([...response.headers].filter(([name]) => name !== 'date'));
  return { status: response.status, fields, text: await response.text() };
}

const path = await testPath('quick', Buffer.from('quick'));
assert.equal((await writer.push(path)).status, 200);

test('a narinfo, present or absent, is answered alike from the database and from memory', async () => {
  for (const hash of [path.hash, '0'.repeat(32)]) {
    const first = await answerOf(`/main/${hash}.narinfo`);
    assert.deepEqual(await answerOf(`/main/${hash}.narinfo`), first);
    // Credentials make it the long way.
    assert.deepEqual(await answerOf(`/main/${hash}.narinfo`, { authorization: 'Bearer slw_none' }), first);
  }
});

test('a path that was absent a moment ago is there once it is published', async () => {
  const late = await testPath('late', Buffer.from('late'));
  for (let n = 0; n < 2; n++)
    assert.equal((await fetch(`${server.url}/main/${late.hash}.narinfo`)).status, 404);
  assert.equal((await writer.push(late)).status, 200);
  assert.equal((await fetch(`${server.url}/main/${late.hash}.narinfo`)).status, 200);
});

test('memory tells nobody what a private cache holds', async () => {
  const owner = new Uploader(`${server.url}/secret`, await issueToken(server, 'write:secret'));
  const hidden = await testPath('hidden', Buffer.from('hidden'));
  assert.equal((await owner.push(hidden)).status, 200);
  for (let n = 0; n < 2; n++) {
    assert.equal((await owner.get(`${hidden.hash}.narinfo`)).status, 200);
    assert.equal((await fetch(`${server.url}/secret/${hidden.hash}.narinfo`)).status, 401);
  }
});

test('HEAD and If-None-Match of a known narinfo have no body', async () => {
  const head = await fetch(`${server.url}/main/${path.hash}.narinfo`, { method: 'HEAD' });
  assert.equal(head.status, 200);
  assert.equal(await head.text(), '');
  const etag = head.headers.get('etag') ?? '';
  const same = await fetch(`${server.url}/main/${path.hash}.narinfo`, { headers: { 'if-none-match': etag } });
  assert.equal(same.status, 304);
});
