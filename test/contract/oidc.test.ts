// Jobs of GitHub, GitLab and Forgejo come with their own tokens: who gets in, who does not, and what is asked of the issuer.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { oidcProvider, tokenExchangeAnswer, type OidcProvider } from '../../src/api/identity-config.ts';
import { OidcCallers } from '../../src/auth/oidc-callers.ts';
import { tokenExchangeRoute } from '../../src/http/token-exchange-route.ts';
import { openCacheServer } from './cache-server.ts';
import { testPath, Uploader } from './cache-uploads.ts';
import { FORGEJO_JOB, GITHUB_JOB, GITLAB_JOB, openIssuer, type Issuer } from './oidc-issuer.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-oidc-'));
const issuer = await openIssuer();
after(async () => {
  await issuer[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

function provider(
  changes: Partial<Record<keyof OidcProvider, unknown>> = {},
  of: Issuer = issuer,
): OidcProvider {
  return oidcProvider.parse({
    name: 'github',
    issuer: of.url,
    audience: 'slipway',
    rules: [
      {
        claims: { repository_id: '4711', ref: 'refs/heads/main', ref_protected: 'true' },
        grants: ['write:main'],
      },
      { claims: { repository_id: ['4711', '4712'] }, grants: ['contribute:main'] },
      { claims: { project_id: '12', ref_path: 'refs/heads/main' }, grants: ['write:main'] },
      { claims: { repository_id: '9', ref: 'refs/heads/main' }, grants: ['write:main'] },
    ],
    ...changes,
  });
}

async function scopesOf(
  token: string,
  callers = new OidcCallers([provider()]),
): Promise<string[] | undefined> {
  const caller = await callers.findCaller(token);
  return caller?.scopes.map((scope) => scope.kind).toSorted();
}

test('jobs of the three forges are known by their claims, whatever the shape of their subject', async () => {
  const callers = new OidcCallers([provider()]);
  assert.deepEqual(await scopesOf(issuer.token(GITHUB_JOB), callers), ['contribute', 'write']);
  const old = { ...GITHUB_JOB, sub: 'repo:me/fleet:ref:refs/heads/main' };
  assert.deepEqual(await scopesOf(issuer.token(old), callers), ['contribute', 'write']);
  const { repository_id: _, ...numberless } = GITHUB_JOB;
  assert.deepEqual(await scopesOf(issuer.token(numberless), callers), ['contribute', 'write']);
  assert.deepEqual(await scopesOf(issuer.token(GITLAB_JOB), callers), ['write']);
  assert.deepEqual(await scopesOf(issuer.token(FORGEJO_JOB), callers), ['write']);
  const caller = await callers.findCaller(issuer.token(GITHUB_JOB));
  assert.equal(caller?.identity, 'github-4711');
  assert.equal(caller.name, 'me/fleet at refs/heads/main');
  assert.equal(issuer.requests.length, 2, 'the keys were asked for once');
});

test('another branch, repository, event or a renamed namesake does not write', async () => {
  const callers = new OidcCallers([provider()]);
  const cases: Record<string, [Record<string, unknown>, string[] | undefined]> = {
    branch: [{ ref: 'refs/heads/evil' }, ['contribute']],
    unprotected: [{ ref_protected: 'false' }, ['contribute']],
    'pull request': [{ event_name: 'pull_request' }, ['contribute']],
    'pull request target': [{ event_name: 'pull_request_target' }, ['contribute']],
    'pull request by subject': [{ sub: 'repo:me/fleet:pull_request', event_name: undefined }, ['contribute']],
    'another number': [{ repository_id: '666', sub: 'repo:me@77/fleet@666:ref:refs/heads/main' }, undefined],
    'a number beside its subject': [
      { repository_id: '4711', sub: 'repo:x@1/y@666:ref:refs/heads/main' },
      undefined,
    ],
    'a list for a claim': [{ repository_id: ['4711'], sub: 'x' }, undefined],
  };
  for (const [what, [changes, expected]] of Object.entries(cases))
    assert.deepEqual(await scopesOf(issuer.token({ ...GITHUB_JOB, ...changes }), callers), expected, what);
  const merge = { ...GITLAB_JOB, pipeline_source: 'merge_request_event' };
  assert.equal(await scopesOf(issuer.token(merge), callers), undefined);
});

test('tokens that are forged, expired, endless or for somebody else are nobody', async () => {
  const callers = new OidcCallers([provider()]);
  const now = Math.floor(Date.now() / 1000);
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const tokens = {
    'another key': issuer.token(GITHUB_JOB, 'key-1', { algorithm: 'RS256', key: stranger.privateKey }),
    'a secret for a key': issuer.token(GITHUB_JOB, 'key-1', { algorithm: 'HS256', secret: Buffer.alloc(32) }),
    audience: issuer.token({ ...GITHUB_JOB, aud: 'https://github.com/me' }),
    issuer: issuer.token({ ...GITHUB_JOB, iss: 'https://evil.example' }),
    expired: issuer.token({ ...GITHUB_JOB, iat: now - 900, nbf: now - 900, exp: now - 600 }),
    early: issuer.token({ ...GITHUB_JOB, nbf: now + 600 }),
    'no end': issuer.token({ ...GITHUB_JOB, exp: undefined }),
    'far end': issuer.token({ ...GITHUB_JOB, exp: now + 30 * 86_400 }),
    'cut off': issuer.token(GITHUB_JOB).slice(0, -20),
  };
  for (const [what, token] of Object.entries(tokens))
    assert.equal(await callers.findCaller(token), undefined, what);
});

test('the keys follow a rotation; unknown key ids and a provider that is down ask no more than once', async () => {
  await using own = await openIssuer();
  let now = Date.now();
  const callers = new OidcCallers([provider({}, own)], () => now);
  assert.ok(await callers.findCaller(own.token(GITHUB_JOB)));
  for (let n = 0; n < 20; n++)
    assert.equal(await callers.findCaller(own.token(GITHUB_JOB, `forged-${n}`)), undefined);
  assert.equal(own.requests.length, 2);
  own.rotate();
  now += 31_000;
  assert.ok(await callers.findCaller(own.token(GITHUB_JOB)));
  assert.equal(own.requests.length, 4);
  own.answer = () => ({ status: 503, body: '' });
  now += 20 * 60_000;
  assert.ok(
    await callers.findCaller(
      own.token({ ...GITHUB_JOB, iat: now / 1000 - 1, nbf: 0, exp: now / 1000 + 60, ...dates(now) }),
    ),
    'old keys serve on',
  );
  now += 25 * 3600_000;
  assert.equal(
    await callers.findCaller(own.token({ ...GITHUB_JOB, ...dates(now) })),
    undefined,
    'but not for ever',
  );
});

function dates(now: number): Record<string, number> {
  return { iat: Math.floor(now / 1000), nbf: Math.floor(now / 1000), exp: Math.floor(now / 1000) + 60 };
}

test('a provider that lies, redirects, floods or answers nonsense lets nobody in', async () => {
  const answers = {
    'another issuer': { status: 200, body: '{"issuer":"https://evil","jwks_uri":"https://evil/jwks"}' },
    'a redirect': { status: 302, body: '', headers: { location: 'http://127.0.0.1:1/' } },
    'no JSON': { status: 200, body: '<html>' },
    'a flood': { status: 200, body: `{"x":"${'x'.repeat(400_000)}"}` },
    'an array': { status: 200, body: '[]' },
  };
  for (const [what, answer] of Object.entries(answers)) {
    await using own = await openIssuer();
    own.answer = () => answer;
    const callers = new OidcCallers([provider({}, own)]);
    assert.equal(await callers.findCaller(own.token(GITHUB_JOB)), undefined, what);
  }
  await using own = await openIssuer();
  const elsewhere = { issuer: own.url, jwks_uri: 'http://127.0.0.1:1/jwks' };
  own.answer = () => ({ status: 200, body: JSON.stringify(elsewhere) });
  assert.equal(await new OidcCallers([provider({}, own)]).findCaller(own.token(GITHUB_JOB)), undefined);
});

test('a job pushes with its own token, and with one of ours for it; who it was is kept', async () => {
  const oidc = new OidcCallers([provider()]);
  await using server = await openCacheServer(join(folder, 'data'), { oidc });
  const direct = new Uploader(`${server.url}/main`, issuer.token(GITHUB_JOB));
  assert.equal((await direct.push(await testPath('direct', Buffer.from('direct')))).status, 200);
  const app = tokenExchangeRoute({ registry: server.tokens, oidc });
  app.onError((_error, c) => c.text('refused', 401));
  const exchange = async (token: string): Promise<Response> =>
    await app.request('/api/v1/token', { method: 'POST', headers: { authorization: `Bearer ${token}` } });
  const answer = tokenExchangeAnswer.parse(await (await exchange(issuer.token(GITHUB_JOB))).json());
  assert.deepEqual(answer.scopes, ['write:main', 'contribute:main']);
  const exchanged = new Uploader(`${server.url}/main`, answer.token);
  assert.equal((await exchanged.push(await testPath('exchanged', Buffer.from('exchanged')))).status, 200);
  const origins = await server.database.read.selectFrom('path_origin').selectAll().orderBy('id').execute();
  assert.deepEqual(
    origins.map((row) => [row.writer, row.writer_name]),
    Array.from({ length: 2 }, () => ['github-4711', 'me/fleet at refs/heads/main']),
  );
  assert.match(origins[1]?.claims ?? '', /"run_id":"1"/);
  // Ours is not a job token, so it cannot be made to live on.
  assert.notEqual((await exchange(answer.token)).status, 200);
});

function parse(changes: object): boolean {
  return oidcProvider.safeParse({ ...provider(), ...changes }).success;
}

test('oidcProvider refuses rules that trust names, and issuers without TLS', () => {
  assert.ok(parse({}));
  assert.ok(
    !parse({ rules: [{ claims: { sub: 'repo:me/fleet:ref:refs/heads/main' }, grants: ['write:main'] }] }),
  );
  assert.ok(!parse({ rules: [{ claims: { repository_id: '1' }, grants: ['admin'] }] }));
  assert.ok(!parse({ rules: [{ claims: { repository_id: '1' }, grants: ['manage:*'] }] }));
  assert.ok(!parse({ issuer: 'http://forge.example.org' }));
  assert.ok(!parse({ rules: [] }));
});
