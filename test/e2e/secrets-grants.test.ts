// No commit grants itself a secret: the pipeline stops at every increase, prints it, and goes on only for who may approve
// exactly that. On real git, nix, age and ssh signatures.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ERROR_CODES } from '../../src/util/errors.ts';
import { openWorld, type World } from './lab/world.ts';
import type { SceneRun } from './pipeline-scene.ts';
import { openSecretScene, type SecretScene } from './secrets-scene.ts';

let world: World;
before(async () => {
  world = await openWorld();
});
after(async () => {
  await world[Symbol.asyncDispose]();
});

async function open(): Promise<SecretScene> {
  return await openSecretScene(world);
}

function digestOf(run: SceneRun): string {
  const digest = /--approve-grants ([0-9a-f]{64})/.exec(run.problems[0]?.next ?? '')?.[1];
  assert.ok(digest, JSON.stringify(run.problems));
  return digest;
}

test('ci run stops at a grant that nobody approved, prints it, and publishes nothing', async () => {
  const fleet = await open();
  const before = await fleet.scene.tip('release');
  fleet.use({ a: ['db'], b: ['hello', 'db'] });
  await fleet.scene.push('b wants the database password');
  const stopped = await fleet.release();
  assert.equal(stopped.code, ERROR_CODES.secrets_failed.exit);
  assert.match(stopped.problems[0]?.message ?? '', /^ {2}\+ b may now read secrets\/db\.age$/m);
  assert.equal(await fleet.scene.tip('release'), before);
  const plan = await fleet.scene.slipway('plan', '--repository', fleet.scene.remote.url);
  assert.equal(plan.code, 0, 'a plan shows the grant, and needs no approval');
  const shown = plan.events.flatMap((event) => (event.kind === 'log' ? [event.line] : []));
  assert.ok(shown.includes('+ b may now read secrets/db.age'), shown.join('\n'));

  const wrong = await fleet.release('--approve-grants', 'a'.repeat(64));
  assert.equal(wrong.code, ERROR_CODES.secrets_failed.exit);
  const approved = await fleet.release('--approve-grants', digestOf(stopped));
  assert.equal(approved.finished.outcome, 'done', JSON.stringify(approved.problems));
  assert.equal(await fleet.open('release', 'secrets/db.age', 'b'), 'the database password');
});

test('ci run goes on with the signature of an editor over exactly these grants, and of nobody else', async () => {
  const fleet = await open();
  fleet.use({ a: ['db'], b: ['hello', 'db'] });
  await fleet.scene.commit('b wants the database password');
  const refused = await fleet.approve('other-editor');
  assert.equal(refused.code, ERROR_CODES.forbidden.exit, refused.stderr);
  const signed = await fleet.approve('editor');
  assert.equal(signed.code, 0, signed.stderr);
  await fleet.scene.push('Approved');
  const run = await fleet.release();
  assert.equal(run.finished.outcome, 'done', JSON.stringify(run.problems));
  fleet.use({ a: ['db', 'hello'], b: ['hello', 'db'] });
  await fleet.scene.push('a wants more, under the old approval');
  const more = await fleet.release();
  assert.match(more.problems[0]?.message ?? '', /\+ a may now read secrets\/hello\.age/);
});

test('ci run lets nobody approve by a key that the same commit brings along', async () => {
  const fleet = await open();
  fleet.use({ a: ['db'], b: ['hello', 'db'] }, ['editor', 'other-editor']);
  const approvers = `version = 1\napprovers = ["${fleet.publicKey('other-editor')}"]\n`;
  await fleet.scene.write('.slipway/policy.toml', approvers);
  await fleet.scene.commit('I approve myself');
  assert.equal((await fleet.approve('other-editor')).code, ERROR_CODES.forbidden.exit);
  await fleet.scene.push('I approve myself');
  const run = await fleet.release();
  const message = run.problems[0]?.message ?? '';
  for (const line of [
    /\+ b may now read/,
    /\+ SHA256:\S+ may now decrypt the source/,
    /~ \.slipway\/policy\.toml/,
  ])
    assert.match(message, line);
});

test('ci run stops at a changed host key, and at a copied secret under a harmless name', async () => {
  const fleet = await open();
  await fleet.keygen('b');
  fleet.use({ a: ['db'], b: ['hello'] });
  await fleet.scene.push('b was reinstalled, they say');
  assert.match(
    (await fleet.release()).problems[0]?.message ?? '',
    /\+ b has the new key ssh-ed25519 SHA256:/,
  );

  const other = await open();
  const db = await readFile(join(other.scene.checkout, 'secrets/db.age'));
  await other.scene.write('secrets/hello.age', db);
  await other.scene.push('A newer greeting');
  const run = await other.release();
  assert.match(
    run.problems[0]?.message ?? '',
    /\+ b may now read secrets\/hello\.age, the content of secrets\/db\.age/,
  );
});

test('ci run is not fooled by a record in the source, nor by a release without secrets in between', async () => {
  const fleet = await open();
  const record = await fleet.scene.forge('show', 'release:.slipway/secrets.json');
  fleet.use({});
  await fleet.scene.write('.slipway/secrets.json', record.replaceAll('"a"', '"b"'));
  await fleet.scene.push('No host needs a secret any more');
  assert.equal((await fleet.release()).finished.outcome, 'done');
  fleet.use({ b: ['db'] });
  await fleet.scene.push('b wants the database password');
  const run = await fleet.release();
  assert.match(run.problems[0]?.message ?? '', /\+ b may now read secrets\/db\.age/);
});

test('ci run gives what the policy of the last release allows without asking', async () => {
  const fleet = await open();
  const policy = 'version = 1\n[[rule]]\npaths = ["secrets/**"]\ntags = ["only-a"]\napproval = "never"\n';
  await fleet.scene.write('.slipway/policy.toml', policy);
  fleet.use({ a: ['db'] });
  await fleet.scene.push('A policy');
  const first = await fleet.release();
  assert.match(first.problems[0]?.message ?? '', /~ \.slipway\/policy\.toml becomes/);
  const approved = await fleet.release('--approve-grants', digestOf(first));
  assert.equal(approved.finished.outcome, 'done', JSON.stringify(approved.problems));
  await fleet.seal('secrets/new.age', 'a new secret of a');
  fleet.use({ a: ['db', 'new'] });
  await fleet.scene.push('a gets a secret of its own');
  assert.equal((await fleet.release()).finished.outcome, 'done');
  fleet.use({ a: ['db', 'new'], b: ['new'] });
  await fleet.scene.push('b wants it too');
  const denied = await fleet.release();
  assert.match(denied.problems[0]?.message ?? '', /b uses secrets\/new\.age, which .* does not let it read/);
});
