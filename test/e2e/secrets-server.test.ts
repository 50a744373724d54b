// `slipway up` with a fleet that has secrets: neither its database, its logs nor its status API ever hold a plaintext or the
// re-key identity, after releases that succeed and releases that fail.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { deadline, sleep } from '../../src/util/deadline.ts';
import { openWorld, type World } from './lab/world.ts';
import { openScene } from './pipeline-scene.ts';
import { SecretScene } from './secrets-scene.ts';

const CANARY = `canary-${randomBytes(12).toString('hex')}`;
const NIX_CONFIG =
  'experimental-features = nix-command flakes\nsubstituters =\nbuild-users-group =\nsandbox = false\n';

let world: World;
before(async () => {
  world = await openWorld();
});
after(async () => {
  await world[Symbol.asyncDispose]();
});

/** The first commit of the scene may be released before the one with secrets. */
async function untilReleased(fleet: SecretScene): Promise<void> {
  const limit = deadline(30_000);
  while (!limit.aborted) {
    const opened = await fleet.open('release', 'secrets/db.age', 'a').catch(() => ''); // not there yet
    if (opened === CANARY) return;
    await sleep(200, limit);
  }
  assert.fail('the secret was not released in 30 s');
}

test('slipway up keeps no plaintext and shows no identity, whatever its runs come to', async () => {
  const fleet = new SecretScene(world, await openScene(world));
  const data = join(fleet.folder, 'data');
  const flags = ['--data', data, '--repository', fleet.scene.remote.path, '--poll', '1', '--json'];
  const command = [join(world.repository, 'bin/slipway'), 'up', ...flags, '--listen', '127.0.0.1:7480'];
  const up = world.start(command, { env: { NIX_CONFIG } });
  await up.waitForLine(/"kind":"listening"/);
  const listening = JSON.parse(up.lines.find((line) => line.includes('"listening"')) ?? '') as {
    rekeyRecipient: string;
  };
  for (const name of ['a', 'b', 'c', 'editor']) await fleet.keygen(name);
  fleet.keys.set('rekey', listening.rekeyRecipient);
  await fleet.seal('secrets/db.age', CANARY);
  fleet.use({ a: ['db'] });
  await fleet.scene.push('A secret');
  await up.waitForLine(/"state":"done"/); // a run takes the newest commit, whichever started it
  await untilReleased(fleet);
  await fleet.seal('secrets/db.age', `${CANARY} again`);
  await world.runText(['truncate', '-s', '-3', join(fleet.scene.checkout, 'secrets/db.age')]);
  await fleet.scene.push('A damaged secret');
  await up.waitForLine(/"state":"failed".*is damaged/);
  const status = await world.runText(['curl', '--silent', '--fail', 'http://127.0.0.1:7480/api/v1/status']);
  await up.stop();

  const identity =
    (await readFile(join(data, 'keys/rekey.key'), 'utf8')).match(/AGE-SECRET-KEY-\S+/)?.[0] ?? '';
  assert.match(identity, /^AGE-SECRET-KEY-1/);
  const printed = up.lines.join('\n') + status;
  for (const word of [CANARY, identity]) {
    assert.ok(!printed.includes(word));
    const places = [data, join(world.folder, 'home'), join(world.folder, 'tmp'), '/nix'];
    const grep = ['grep', '-rlaF', '--devices=skip', '-s', '-f', '-', '--', ...places];
    const found = await world.run(grep, { input: `${word}\n`, timeoutMs: 120_000 });
    const files = found.stdout.toString('utf8').split('\n').filter(Boolean);
    assert.deepEqual(files, word === identity ? [join(data, 'keys/rekey.key')] : []);
  }
});
