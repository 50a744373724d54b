// `slipway secrets exposure` and `rotate-status` over real releases.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ERROR_CODES } from '../../src/util/errors.ts';
import { openWorld, type World } from './lab/world.ts';
import { openSecretScene, type SecretScene } from './secrets-scene.ts';

let world: World;
before(async () => {
  world = await openWorld();
});
after(async () => {
  await world[Symbol.asyncDispose]();
});

interface Answer {
  readonly code: number;
  readonly secrets: readonly { readonly path: string; readonly status: string; readonly first: number }[];
}

async function ask(fleet: SecretScene, verb: string, name: string): Promise<Answer> {
  await fleet.scene.git('fetch', '--quiet', 'origin');
  const argv = ['secrets', verb, name, '--repository', '.', '--json'];
  const result = await world.slipway(argv, { cwd: fleet.scene.checkout });
  const text = result.stdout.toString('utf8');
  assert.notEqual(text, '', result.stderr);
  return { code: result.code, ...(JSON.parse(text) as Pick<Answer, 'secrets'>) };
}

test('a host that lost a secret is exposed to it until its value changes; a new editor changes nothing', async () => {
  const fleet = await openSecretScene(world);
  const path = 'secrets/db.age';
  fleet.use({ b: ['hello', 'db'] });
  await fleet.scene.push('The database moves from a to b');
  const digest = /--approve-grants ([0-9a-f]{64})/;
  const stopped = await fleet.release();
  const approval = digest.exec(stopped.problems[0]?.next ?? '')?.[1] ?? '';
  assert.equal((await fleet.release('--approve-grants', approval)).finished.outcome, 'done');

  const exposed = await ask(fleet, 'exposure', 'a');
  assert.deepEqual(
    exposed.secrets.map(({ path, status, first }) => [path, status, first]),
    [[path, 'known', 1]],
  );
  assert.equal((await ask(fleet, 'rotate-status', 'a')).code, ERROR_CODES.secrets_failed.exit);

  await fleet.seal(path, 'the database password');
  await fleet.scene.setVersion('c', '2');
  await fleet.scene.push('Encrypted anew, the same value');
  assert.equal((await fleet.release()).finished.outcome, 'done');
  assert.equal((await ask(fleet, 'rotate-status', 'a')).secrets[0]?.status, 'known');

  await fleet.seal(path, 'a new database password');
  await fleet.scene.push('A new password');
  assert.equal((await fleet.release()).finished.outcome, 'done');
  const rotated = await ask(fleet, 'rotate-status', 'a');
  assert.deepEqual([rotated.code, rotated.secrets], [0, []]);
  const editor = await ask(fleet, 'exposure', 'editor');
  assert.deepEqual(
    editor.secrets.map(({ status }) => status),
    ['reads', 'reads'],
  );
  const unknown = await world.slipway(['secrets', 'exposure', 'nobody', '--repository', '.'], {
    cwd: fleet.scene.checkout,
  });
  assert.equal(unknown.code, ERROR_CODES.not_found.exit);
});
