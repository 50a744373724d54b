import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { webhookSecrets, type ServerConfig } from '../api/server-config.ts';
import { SlipwayError } from '../util/errors.ts';
import { readServerConfig } from './config-file.ts';
import { repositoryName } from './server-settings.ts';

async function read(toml: string, flags: Record<string, unknown> = {}): Promise<ServerConfig> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slipway-config-'));
  const file = path.join(folder, 'server.toml');
  try {
    await writeFile(file, toml);
    return await readServerConfig(file, flags);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function complaint(toml: string): Promise<string> {
  const error: unknown = await read(toml).then(
    () => assert.fail('it was accepted'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof SlipwayError && error.code === 'invalid');
  return error.message;
}

test('readServerConfig() needs no more than a data directory', async () => {
  const config = await readServerConfig(undefined, { data: '/var/lib/slipway' });
  assert.deepEqual(config.listen, ['127.0.0.1:7480']);
  assert.deepEqual(config.caches, [{ name: 'main', public: false }]);
  assert.equal(config.view, 'local');
});

test('readServerConfig() lets flags stand over the file', async () => {
  const config = await read('data = "/a"\nview = "token"', { data: '/b' });
  assert.deepEqual([config.data, config.view], ['/b', 'token']);
});

test('readServerConfig() takes one webhook secret or several', async () => {
  const repository =
    'data = "/a"\n[[repositories]]\nname = "homelab"\nurl = "https://forge.example.org/me/fleet.git"';
  const one = await read(`${repository}\nwebhookSecret = "file:/etc/hook"`);
  const two = await read(`${repository}\nwebhookSecret = ["env:NEW", "credential:old"]`);
  assert.deepEqual(one.repositories.map(webhookSecrets), [['file:/etc/hook']]);
  assert.deepEqual(two.repositories.map(webhookSecrets), [['env:NEW', 'credential:old']]);
});

test('readServerConfig() names the key that does not fit, and never shows its value', async () => {
  const cases: [string, RegExp][] = [
    ['data = "relative"', /data: /],
    ['data = "/a"\npolll = 3', /unknown key polll/],
    ['data = "/a"\nlisten = "x"', /listen: /],
    [
      withRepository('url = "https://me:hunter2@forge.example.org/x"'),
      /repositories\[0\]\.url: .*credentials/,
    ],
    [withRepository('url = "/x"\nwebhookSecret = "hunter2"'), /repositories\[0\]\.webhookSecret/],
    [
      withRepository('url = "/x"\ncredentials = "env:HUNTER2_TOKEN"'),
      /repositories\[0\]\.credentials: .*file:/,
    ],
    [withRepository('url = "/x"\n[[repositories]]\nname = "homelab"\nurl = "/y"'), /same name/],
  ];
  for (const [toml, pattern] of cases) {
    const message = await complaint(toml);
    assert.match(message, pattern);
    assert.doesNotMatch(message, /hunter2/i);
  }
});

test('readServerConfig() names line and column of broken TOML, without the line', async () => {
  const message = await complaint('data = "/a"\nsecret = "hunter2');
  assert.match(message, /server\.toml:2:\d+: /);
  assert.doesNotMatch(message, /hunter2/);
});

test('repositoryName() makes a name for URLs', () => {
  const named = [
    'https://forge.example.org/me/My_Fleet.git',
    '/srv/git/homelab.git/',
    'git@forge:fleet',
    '.git',
  ];
  assert.deepEqual(named.map(repositoryName), ['my-fleet', 'homelab', 'fleet', 'fleet']);
});

function withRepository(lines: string): string {
  return `data = "/a"\n[[repositories]]\nname = "homelab"\n${lines}`;
}
