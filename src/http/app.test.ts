// The app called as a function, over a real database file and real tokens.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { parseScope } from '../auth/scope.ts';
import { openTokenRegistry } from '../auth/token-registry.ts';
import { openFleet, type Fleet } from '../fleet/fleet.ts';
import { openSqliteDatabase } from '../storage/sqlite-database.ts';
import { createApp } from './app.ts';
import { openPageAssets } from './page-assets.ts';
import { ViewAccess, type ViewPolicy } from './view-access.ts';

const A = 'a'.repeat(40);
const SECRET = 'correct horse battery staple';
const LOCAL = { peer: '127.0.0.1' };
const FAR = { peer: '192.0.2.7' };

interface World extends AsyncDisposable {
  readonly fleet: Fleet;
  readonly closing: AbortController;
  readonly errors: unknown[];
  readonly ask: (
    url: string,
    init?: RequestInit,
    bindings?: { peer: string | undefined },
  ) => Promise<Response>;
  readonly token: (...scopes: string[]) => Promise<string>;
}

async function openWorld(policy: ViewPolicy = 'local'): Promise<World> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slipway-http-'));
  const database = await openSqliteDatabase(path.join(folder, 'slipway.db'));
  const tokens = openTokenRegistry(database);
  const repositories = [{ name: 'homelab', branch: 'main', releaseBranch: 'release' }];
  const fleet = await openFleet({ database, repositories, keepRuns: 10 });
  const closing = new AbortController();
  const errors: unknown[] = [];
  const app = createApp({
    fleet,
    tokens,
    access: new ViewAccess(policy, tokens),
    closing: closing.signal,
    heartbeatMs: 20,
    findAsset: openPageAssets(),
    readWebhookSecrets: () => Promise.resolve([SECRET]),
    onError: (error) => errors.push(error),
  });
  return {
    fleet,
    closing,
    errors,
    ask: async (url, init = {}, bindings = LOCAL) => {
      const headers = new Headers(init.headers);
      if (!headers.has('host')) headers.set('host', 'localhost:7480');
      return await app.request(url, { ...init, headers }, bindings);
    },
    token: async (...scopes) => (await tokens.create({ name: 'test', scopes: scopes.map(parseScope) })).token,
    [Symbol.asyncDispose]: async () => {
      closing.abort();
      await tokens[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
}

async function codeOf(response: Response): Promise<string> {
  const body = (await response.json()) as { code: string; message: string };
  assert.notEqual(body.message, '');
  return body.code;
}

function post(body: unknown, headers: Record<string, string> = {}): RequestInit {
  return { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body), headers };
}

function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` };
}

test('GET /healthz answers anybody', async () => {
  await using world = await openWorld();
  assert.deepEqual(await (await world.ask('/healthz', {}, FAR)).json(), { ok: true });
});

test('Every answer forbids foreign code and sniffing', async () => {
  await using world = await openWorld();
  for (const url of ['/', '/api/v1/status', '/nowhere', '/assets/app.ts', '/login']) {
    const { headers } = await world.ask(url);
    assert.match(headers.get('content-security-policy') ?? '', /default-src 'none'.*script-src 'self'/);
    assert.doesNotMatch(headers.get('content-security-policy') ?? '', /unsafe/);
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
  }
});

test('The page is open to this machine, asked directly and by a local name', async () => {
  await using world = await openWorld();
  for (const host of ['localhost:7480', '127.0.0.1:7480', '[::1]:7480', 'slipway.localhost']) {
    assert.equal((await world.ask('/api/v1/status', { headers: { host } })).status, 200, host);
  }
  assert.equal((await world.ask('/api/v1/status', {}, { peer: 'unix' })).status, 200);
});

test('The page is closed to others, to proxies and to rebound names', async () => {
  await using world = await openWorld();
  const closed: [Record<string, string>, { peer: string | undefined }][] = [
    [{}, FAR],
    [{}, { peer: undefined }],
    [{ 'x-forwarded-for': '192.0.2.7' }, LOCAL],
    [{ forwarded: 'for=192.0.2.7' }, { peer: 'unix' }],
    [{ host: 'evil.example' }, LOCAL],
  ];
  for (const [headers, bindings] of closed) {
    for (const url of ['/api/v1/status', '/api/v1/runs/1', '/api/v1/runs/1/events', '/events']) {
      const answer = await world.ask(url, { headers }, bindings);
      assert.equal(answer.status, 401, url);
      assert.match(answer.headers.get('www-authenticate') ?? '', /^Bearer/);
      assert.equal(await codeOf(answer), 'unauthorized');
    }
    const page = await world.ask('/', { headers }, bindings);
    assert.deepEqual([page.status, page.headers.get('location')], [303, '/login']);
  }
});

test('Tokens with view or admin open the API from afar, others do not', async () => {
  await using world = await openWorld('token');
  for (const [scope, status] of [
    ['view', 200],
    ['admin', 200],
    ['read:*', 401],
    ['agent:*', 401],
  ] as const) {
    const headers = bearer(await world.token(scope));
    assert.equal((await world.ask('/api/v1/status', { headers }, FAR)).status, status, scope);
  }
  assert.equal((await world.ask('/api/v1/status')).status, 401);
});

test('GET /api/v1/token tells of the token that asks, and nobody of any other', async () => {
  await using world = await openWorld('token');
  const authorization = `Bearer ${await world.token('write:main', 'read:*')}`;
  const answer = await world.ask('/api/v1/token', { headers: { authorization } });
  assert.deepEqual(
    [answer.status, await answer.json()],
    [200, { name: 'test', scopes: ['write:main', 'read:*'] }],
  );
  for (const headers of [
    {},
    { authorization: 'Bearer slw_nobody_x' },
    { authorization: `${authorization}x` },
  ]) {
    const refused = await world.ask('/api/v1/token', { headers });
    assert.deepEqual([refused.status, await codeOf(refused)], [401, 'unauthorized']);
  }
});

test('POST /login begins a session that only its cookie carries', async () => {
  await using world = await openWorld('token');
  const form = { 'content-type': 'application/x-www-form-urlencoded' };
  const answer = await world.ask('/login', post(`token=${await world.token('view')}`, form), FAR);
  assert.deepEqual([answer.status, answer.headers.get('location')], [303, '/']);
  const cookie = answer.headers.get('set-cookie') ?? '';
  assert.match(cookie, /HttpOnly/);
  assert.match(cookie, /SameSite=Strict/);
  const headers = { cookie: cookie.split(';')[0] ?? '' };
  assert.equal((await world.ask('/', { headers }, FAR)).status, 200);
  await world.ask('/logout', { method: 'POST', headers }, FAR);
  assert.equal((await world.ask('/api/v1/status', { headers }, FAR)).status, 401);
});

test('POST /login refuses wrong tokens, weaker ones and forms of other sites', async () => {
  await using world = await openWorld('token');
  const view = await world.token('view');
  const wrong: [string, Record<string, string>][] = [
    ['token=slw_nope', {}],
    ['', {}],
    [`token=${await world.token('read:*')}`, {}],
    [`token=${view}`, { 'sec-fetch-site': 'cross-site' }],
  ];
  for (const [body, headers] of wrong) {
    const answer = await world.ask('/login', post(body, headers), FAR);
    assert.deepEqual(
      [answer.headers.get('location'), answer.headers.get('set-cookie')],
      ['/login#refused', null],
    );
  }
});

test('GET / and its assets are self-contained and erased of types', async () => {
  await using world = await openWorld();
  const page = await (await world.ask('/')).text();
  assert.doesNotMatch(page, /(src|href)="https?:/);
  const script = await world.ask('/assets/app.ts');
  assert.match(script.headers.get('content-type') ?? '', /text\/javascript/);
  assert.doesNotMatch(await script.text(), /import type/);
  const again = { headers: { 'if-none-match': script.headers.get('etag') ?? '' } };
  assert.equal((await world.ask('/assets/app.ts', again)).status, 304);
  for (const name of ['log-text.test.ts', 'tsconfig.json', '..%2fhttp%2fapp.ts', 'nothing.ts']) {
    assert.equal((await world.ask(`/assets/${name}`)).status, 404, name);
  }
});

test('POST /api/v1/runs starts a run for an administrator only', async () => {
  await using world = await openWorld();
  const body = { repository: 'homelab', commit: A };
  assert.equal(await codeOf(await world.ask('/api/v1/runs', post(body))), 'unauthorized');
  const viewer = await world.ask('/api/v1/runs', post(body, bearer(await world.token('view'))));
  assert.equal(await codeOf(viewer), 'forbidden');
  const admin = bearer(await world.token('admin'));
  const answer = await world.ask('/api/v1/runs', post(body, admin));
  assert.equal(answer.status, 202);
  assert.deepEqual(await answer.json(), { decision: 'start', reason: 'asked for by hand', run: '1' });
  assert.equal(await codeOf(await world.ask('/api/v1/runs', post({ repository: 'x' }, admin))), 'not_found');
  assert.equal(
    await codeOf(await world.ask('/api/v1/runs', post({ repository: 'homelab' }, admin))),
    'unavailable',
  );
  for (const bad of [
    '{',
    '[]',
    '{"repository":"homelab","commit":"--x"}',
    '{"repository":"homelab","extra":1}',
  ]) {
    assert.equal(await codeOf(await world.ask('/api/v1/runs', post(bad, admin))), 'invalid', bad);
  }
});

test('POST /hooks starts a run for a signed push, once', async () => {
  await using world = await openWorld();
  const body = await readFile(path.join(import.meta.dirname, '../../test/vectors/webhooks/github-push.json'));
  const headers = {
    'x-github-event': 'push',
    'x-github-delivery': 'd-1',
    'x-hub-signature-256': `sha256=${createHmac('sha256', SECRET).update(body).digest('hex')}`,
  };
  const request = { method: 'POST', body, headers };
  const answer = await world.ask('/hooks/github/homelab', request, FAR);
  assert.equal(answer.status, 202);
  assert.deepEqual(await answer.json(), { decision: 'start', reason: 'push to main', run: '1' });
  const again = await world.ask('/hooks/github/homelab', request, FAR);
  assert.match(((await again.json()) as { reason: string }).reason, /seen before/);
});

test('POST /hooks refuses forged, unsigned, oversized and misaddressed deliveries', async () => {
  await using world = await openWorld();
  const event = { 'x-github-event': 'push', 'x-github-delivery': 'd-1' };
  const forged = { ...event, 'x-hub-signature-256': `sha256=${'0'.repeat(64)}` };
  const ask = async (url: string, body: string, headers: Record<string, string>): Promise<string> =>
    await codeOf(await world.ask(url, post(body, headers), FAR));
  assert.equal(await ask('/hooks/github/homelab', '{}', forged), 'signature_invalid');
  assert.equal(await ask('/hooks/github/homelab', '{}', event), 'unauthorized');
  assert.equal(await ask('/hooks/github/homelab', 'x'.repeat(8 * 1024 * 1024 + 1), forged), 'too_large');
  assert.equal(await ask('/hooks/github/other', '{}', forged), 'not_found');
  assert.equal(await ask('/hooks/svn/homelab', '{}', forged), 'not_found');
  assert.equal((await world.fleet.readStatus()).runs.length, 0);
});

test('POST /hooks refuses more bodies than it may hold, and is free again when they end', async () => {
  await using world = await openWorld();
  const feeds: ReadableStreamDefaultController<Uint8Array>[] = [];
  const slow = (): RequestInit => ({
    method: 'POST',
    body: new ReadableStream<Uint8Array>({ start: (feed) => void feeds.push(feed) }),
    duplex: 'half',
  });
  const held = Array.from({ length: 16 }, async () => await world.ask('/hooks/github/homelab', slow(), FAR));
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(await codeOf(await world.ask('/hooks/github/homelab', slow(), FAR)), 'unavailable');
  for (const feed of feeds) feed.close();
  for (const answer of await Promise.all(held)) assert.equal(await codeOf(answer), 'unauthorized');
  assert.equal(await codeOf(await world.ask('/hooks/github/homelab', post('{}'), FAR)), 'unauthorized');
});

test('POST /api/agent/v1/report takes a report from the token of that host only', async () => {
  await using world = await openWorld();
  const report = agentReport();
  const url = '/api/agent/v1/report';
  assert.equal(await codeOf(await world.ask(url, post(report), FAR)), 'unauthorized');
  for (const scope of ['agent:web1', 'admin']) {
    const headers = bearer(await world.token(scope));
    assert.equal(await codeOf(await world.ask(url, post(report, headers), FAR)), 'forbidden', scope);
  }
  const headers = bearer(await world.token('agent:pi1'));
  const answer = await world.ask(url, post(report, headers), FAR);
  assert.equal(((await answer.json()) as { version: number }).version, 1);
  assert.equal((await world.fleet.readStatus()).hosts[0]?.name, 'pi1');
  assert.equal(await codeOf(await world.ask(url, post({ ...report, sync: 'x' }, headers), FAR)), 'invalid');
});

test('GET /events sends a snapshot, what was missed, and what happens, then ends with the server', async () => {
  await using world = await openWorld();
  const { fleet } = world;
  await fleet.hearOfCommit({ repository: 'homelab', branch: 'main', commit: A, trigger: 'poll' });
  await fleet.recordEvents('1', [log('one'), log('two')]);
  const [first] = (await fleet.listRunEvents('1', 0, 1)).events;
  const headers = { 'last-event-id': String(first?.id) };
  const answer = await world.ask('/events', { headers });
  assert.match(answer.headers.get('content-type') ?? '', /text\/event-stream/);
  const reader = readStream(answer);
  await reader.until((text) => text.includes('"line":"two"'));
  await fleet.recordEvents('1', [log('three')]);
  await reader.until((text) => text.includes('"line":"three"'));
  await reader.until((text) => text.includes(': still here'));
  const ids = [...reader.text().matchAll(/^id: (\d+)$/gm)].map((match) => Number(match[1]));
  assert.deepEqual(ids, [(first?.id ?? 0) + 1, (first?.id ?? 0) + 2]);
  assert.match(reader.text(), /^retry: 2000\n\nevent: snapshot\n/);
  world.closing.abort();
  await reader.end();
});

test('GET /events lets go of a reader that left', async () => {
  await using world = await openWorld();
  const answer = await world.ask('/events');
  const reader = answer.body?.getReader();
  await reader?.read();
  await reader?.cancel();
  await world.fleet.hearOfCommit({ repository: 'homelab', branch: 'main', commit: A, trigger: 'poll' });
});

test('An unexpected failure is told to the log, not to the client', async () => {
  await using world = await openWorld();
  world.fleet.readStatus = () => Promise.reject(new Error('secret detail'));
  const answer = await world.ask('/api/v1/status');
  assert.equal(answer.status, 500);
  assert.doesNotMatch(await answer.text(), /secret detail/);
  assert.equal(world.errors.length, 1);
});

interface StreamReader {
  readonly text: () => string;
  readonly until: (enough: (text: string) => boolean) => Promise<void>;
  readonly end: () => Promise<void>;
}

function readStream(response: Response): StreamReader {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const decoder = new TextDecoder();
  let text = '';
  const more = async (): Promise<boolean> => {
    const { done, value } = await reader.read();
    text += decoder.decode(value, { stream: true });
    return !done;
  };
  return {
    text: () => text,
    until: async (enough) => {
      while (!enough(text)) assert.ok(await more(), `the stream ended with ${text}`);
    },
    end: async () => {
      while (await more());
    },
  };
}

function log(line: string): { kind: 'log'; at: string; stage: 'build'; line: string } {
  return { kind: 'log', at: '2026-11-21T08:00:00.000Z', stage: 'build', line };
}

function agentReport(): Record<string, unknown> {
  const system = '/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-pi1-1';
  return {
    version: 1,
    host: 'pi1',
    bootId: 'b',
    agentVersion: '0.1.0',
    at: '2026-11-21T08:00:00.000Z',
    current: system,
    booted: system,
    profile: system,
    bootDefault: system,
    generation: 4,
    operation: 'idle',
    sync: 'synced',
    health: 'healthy',
    note: '',
    quarantined: [],
  };
}
