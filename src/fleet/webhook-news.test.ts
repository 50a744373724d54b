// What the frozen payloads of the three forges tell.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { parseWebhookNews, type WebhookNews } from './webhook-news.ts';
import type { Forge } from './webhook-signature.ts';

const COMMIT = '4be1c7a6fd03925e8817aab3c24d96f0e57b1c38';
const ID = 'f6266f16-1bf3-46a5-9ea4-602e06ead473';
const HEADERS: Readonly<Record<Forge, Record<string, string>>> = {
  github: { 'x-github-event': 'push', 'x-github-delivery': ID },
  gitlab: { 'x-gitlab-event': 'Push Hook', 'idempotency-key': ID },
  forgejo: { 'x-forgejo-event': 'push', 'x-forgejo-delivery': ID },
};

function read(forge: Forge, name: string, more: Record<string, string> = {}): WebhookNews {
  const body = readFileSync(path.join(import.meta.dirname, `../../test/vectors/webhooks/${name}.json`));
  return parse(forge, body, more);
}

function parse(forge: Forge, body: Uint8Array, more: Record<string, string> = {}): WebhookNews {
  const headers = { ...HEADERS[forge], ...more };
  return parseWebhookNews({ forge, header: (name) => headers[name], body });
}

test('parseWebhookNews() reads a push of each forge', () => {
  for (const forge of ['github', 'gitlab', 'forgejo'] as const) {
    const news = read(forge, `${forge}-push`);
    assert.deepEqual(news, { kind: 'push', delivery: ID, branch: 'main', commit: COMMIT });
  }
});

test('parseWebhookNews() keeps the slashes of a branch name', () => {
  const body = Buffer.from(JSON.stringify({ ref: 'refs/heads/feature/new-host', after: COMMIT }));
  const news = parse('forgejo', body);
  assert.equal(news.kind === 'push' && news.branch, 'feature/new-host');
});

test('parseWebhookNews() ignores deleted branches, tags and other events with a reason', () => {
  const cases: [WebhookNews, RegExp][] = [
    [read('github', 'github-delete'), /"old-idea" was deleted/],
    [read('gitlab', 'gitlab-delete'), /"old-idea" was deleted/],
    [read('github', 'github-tag'), /"refs\/tags\/v1\.2" is not a branch/],
    [read('github', 'github-ping', { 'x-github-event': 'ping' }), /"ping" starts nothing/],
    [read('gitlab', 'gitlab-push', { 'x-gitlab-event': 'Note Hook' }), /"Note Hook" starts nothing/],
  ];
  for (const [news, reason] of cases) assert.match(news.kind === 'ignored' ? news.reason : '', reason);
});

test('parseWebhookNews() refuses a body that is not JSON, not UTF-8 or not a push', () => {
  const bodies = ['payload=%7B%7D', '', '[]', '{"ref":"refs/heads/main"}', '{"ref":1,"after":2}', 'null'];
  const bytes = [...bodies.map((text) => Buffer.from(text)), Buffer.from([0x22, 0xff, 0x22])];
  for (const body of bytes) {
    assert.throws(
      () => parse('github', body),
      (error: unknown) => isCode(error, 'invalid'),
    );
  }
});

test('parseWebhookNews() refuses a commit that is no commit id', () => {
  const body = Buffer.from(JSON.stringify({ ref: 'refs/heads/main', after: '--upload-pack=x' }));
  assert.throws(
    () => parse('github', body),
    (error: unknown) => isCode(error, 'invalid'),
  );
});

test('parseWebhookNews() needs an event name and a delivery id', () => {
  for (const gone of ['x-github-event', 'x-github-delivery']) {
    assert.throws(
      () => read('github', 'github-push', { [gone]: '' }),
      (error: unknown) => isCode(error, 'invalid'),
    );
  }
});
