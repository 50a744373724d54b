// Signatures over the frozen payloads in test/vectors/webhooks; they were computed with OpenSSL, not with this code.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { verifyWebhook, type Forge, type WebhookDelivery } from './webhook-signature.ts';

const SECRET = 'correct horse battery staple';
const SIGNED: Readonly<Record<string, string>> = {
  'github-push': 'a1e58c7bb2d28880feb0ed28684314380e17dfd0019da6155e405af25345af1d',
  'github-ping': 'cda038262573ed9b1fc2d04cae81e064fb97a2739647d2073aaf185f1551d9b6',
  'forgejo-push': '9f6624c3cf802202d188d02704dc61e43e9001dd0b7c1c4534269276cbb1875d',
};
const GITLAB_KEY = 'whsec_c2xpcHdheS1naXRsYWItc2lnbmluZy1rZXktMzJieXQ=';
const GITLAB_SIGNED = {
  'webhook-id': '0195f1a2-7c3e-7d10-9b44-5f0c2a6e8d11',
  'webhook-timestamp': '1795197791',
  'webhook-signature': 'v1,tOfYrtIvfH/blq+efir4RExb40wC6v6UlIaPFJy3iNE=',
};
const THEN = 1_795_197_791_000;

function delivery(forge: Forge, name: string, headers: Record<string, string>): WebhookDelivery {
  const file = path.join(import.meta.dirname, `../../test/vectors/webhooks/${name}.json`);
  return { forge, header: (header) => headers[header], body: readFileSync(file) };
}

function fails(code: 'unauthorized' | 'signature_invalid' | 'forbidden', run: () => void): void {
  assert.throws(run, (error: unknown) => isCode(error, code));
}

test('verifyWebhook() accepts what GitHub signs', () => {
  for (const name of ['github-push', 'github-ping']) {
    const headers = { 'x-hub-signature-256': `sha256=${SIGNED[name] ?? ''}` };
    verifyWebhook(delivery('github', name, headers), [SECRET], THEN);
  }
});

test('verifyWebhook() accepts the old and the new secret while a secret is rotated', () => {
  const headers = { 'x-hub-signature-256': `sha256=${SIGNED['github-push'] ?? ''}` };
  verifyWebhook(delivery('github', 'github-push', headers), ['the new one', SECRET], THEN);
});

test('verifyWebhook() refuses another body, another secret and a cut signature', () => {
  const right = `sha256=${SIGNED['github-push'] ?? ''}`;
  const cases: [string, string, string][] = [
    ['github-ping', right, SECRET],
    ['github-push', right, 'another secret'],
    ['github-push', right.slice(0, -1), SECRET],
    ['github-push', right.slice('sha256='.length), SECRET],
    ['github-push', 'sha256=', SECRET],
  ];
  for (const [name, signature, secret] of cases) {
    const given = delivery('github', name, { 'x-hub-signature-256': signature });
    fails('signature_invalid', () => verifyWebhook(given, [secret], THEN));
  }
});

test('verifyWebhook() refuses a delivery without a signature, and the SHA-1 one of old', () => {
  fails('unauthorized', () => verifyWebhook(delivery('github', 'github-push', {}), [SECRET], THEN));
  const sha1 = { 'x-hub-signature': 'sha1=0000000000000000000000000000000000000000' };
  fails('unauthorized', () => verifyWebhook(delivery('github', 'github-push', sha1), [SECRET], THEN));
});

test('verifyWebhook() never passes with an empty or missing secret', () => {
  const given = delivery('gitlab', 'gitlab-push', { 'x-gitlab-token': '' });
  for (const secrets of [[], ['']]) fails('forbidden', () => verifyWebhook(given, secrets, THEN));
  fails('unauthorized', () => verifyWebhook(given, ['x'], THEN));
});

test('verifyWebhook() accepts GitLab by token', () => {
  verifyWebhook(delivery('gitlab', 'gitlab-push', { 'x-gitlab-token': SECRET }), [SECRET], THEN);
  const wrong = delivery('gitlab', 'gitlab-push', { 'x-gitlab-token': `${SECRET}!` });
  fails('signature_invalid', () => verifyWebhook(wrong, [SECRET], THEN));
});

test('verifyWebhook() accepts GitLab by signing token within five minutes', () => {
  const given = delivery('gitlab', 'gitlab-push', GITLAB_SIGNED);
  for (const now of [THEN, THEN + 299_000, THEN - 299_000]) verifyWebhook(given, [GITLAB_KEY], now);
  for (const now of [THEN + 301_000, THEN - 301_000]) {
    fails('signature_invalid', () => verifyWebhook(given, [GITLAB_KEY], now));
  }
});

test('verifyWebhook() accepts one good signature among several', () => {
  const several = { ...GITLAB_SIGNED, 'webhook-signature': `v1,AAAA ${GITLAB_SIGNED['webhook-signature']}` };
  verifyWebhook(delivery('gitlab', 'gitlab-push', several), [GITLAB_KEY], THEN);
});

test('verifyWebhook() binds the id and the timestamp of a signed GitLab delivery', () => {
  for (const changed of [{ 'webhook-id': 'another' }, { 'webhook-timestamp': '1795197792' }]) {
    const given = delivery('gitlab', 'gitlab-push', { ...GITLAB_SIGNED, ...changed });
    fails('signature_invalid', () => verifyWebhook(given, [GITLAB_KEY], THEN));
  }
});

test('verifyWebhook() does not fall back to the token of a GitLab delivery with a bad signature', () => {
  const headers = { ...GITLAB_SIGNED, 'webhook-signature': 'v1,AAAA', 'x-gitlab-token': SECRET };
  fails('signature_invalid', () => verifyWebhook(delivery('gitlab', 'gitlab-push', headers), [SECRET], THEN));
});

test('verifyWebhook() accepts what Forgejo and Gitea sign, and looks at Forgejo first', () => {
  const right = SIGNED['forgejo-push'] ?? '';
  for (const header of ['x-forgejo-signature', 'x-gitea-signature']) {
    verifyWebhook(delivery('forgejo', 'forgejo-push', { [header]: right }), [SECRET], THEN);
  }
  const mixed = { 'x-forgejo-signature': 'ff', 'x-gitea-signature': right };
  fails('signature_invalid', () => verifyWebhook(delivery('forgejo', 'forgejo-push', mixed), [SECRET], THEN));
});
