// Secrets on their way through `slipway ci run`: re-keyed for exactly the hosts that use them, kept when nothing
// changed, and nowhere in the clear. Checked with the real age.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ERROR_CODES } from '../../src/util/errors.ts';
import { openWorld, type World } from './lab/world.ts';
import { openScene, type PipelineScene, type SceneRun } from './pipeline-scene.ts';

const CANARY = 'canary-7Zq1vXw9';

let world: World;
before(async () => {
  world = await openWorld();
  for (const name of ['a', 'b', 'editor', 'rekey']) {
    const argv = ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', keyFile(name)];
    await world.runText(argv);
  }
});
after(async () => {
  await world[Symbol.asyncDispose]();
});

function keyFile(name: string): string {
  return join(world.folder, `key-${name}`);
}

async function publicKey(name: string): Promise<string> {
  return (await readFile(`${keyFile(name)}.pub`, 'utf8')).trim();
}

/** a and b share one secret, a has one of its own, and one file is used by nobody. */
async function secretScene(): Promise<PipelineScene> {
  const scene = await openScene(world);
  scene.fleet.hosts = {
    a: { secrets: { own: 'secrets/own.age', shared: 'secrets/shared.age' } },
    b: { secrets: { shared: 'secrets/shared.age' } },
    c: {},
  };
  const hosts = { a: { publicKey: await publicKey('a') }, b: { publicKey: await publicKey('b') } };
  scene.fleet.slipway = { hosts };
  for (const name of ['own', 'shared', 'unused']) await putSecret(scene, name, `${name} ${CANARY}`);
  await scene.push('Secrets');
  return scene;
}

async function putSecret(scene: PipelineScene, name: string, text: string): Promise<void> {
  await scene.write('secrets/.keep', '');
  const readers = ['editor', 'rekey'].flatMap((reader) => ['-R', `${keyFile(reader)}.pub`]);
  const output = join(scene.checkout, `secrets/${name}.age`);
  await world.runText(['age', '--encrypt', ...readers, '--output', output], { input: text });
}

async function release(scene: PipelineScene, ...args: string[]): Promise<SceneRun> {
  return await scene.release('--rekey-identity', keyFile('rekey'), ...args);
}

/** What `reader` finds in a file of the release branch; undefined when it does not open. */
async function open(scene: PipelineScene, path: string, reader: string): Promise<string | undefined> {
  const copy = join(world.folder, 'ciphertext');
  const blob = await world.run(['git', '-C', scene.remote.path, 'cat-file', 'blob', `release:${path}`]);
  await writeFile(copy, blob.stdout);
  const result = await world.run(['age', '--decrypt', '--identity', keyFile(reader), copy]);
  return result.code === 0 ? result.stdout.toString('utf8') : undefined;
}

test('ci run re-keys the secrets of home-manager users for the users, whose key opens nothing of the host', async () => {
  const scene = await secretScene();
  scene.fleet.hosts['b'] = {
    secrets: { shared: 'secrets/shared.age' },
    users: { anna: { own: 'secrets/own.age' } },
  };
  scene.fleet.hosts['a'] = {};
  await scene.push('A secret of anna');
  const refused = await release(scene);
  assert.match(JSON.stringify(refused.problems), /slipway\.hosts\.b\.users\.anna/);
  const b = { publicKey: await publicKey('b'), users: { anna: await publicKey('a') } };
  scene.fleet.slipway = { hosts: { b } };
  await scene.push('Her key');
  const run = await release(scene);
  assert.equal(run.code, 0, JSON.stringify(run.problems));
  assert.equal(await open(scene, 'secrets/own.age', 'a'), `own ${CANARY}`);
  assert.equal(await open(scene, 'secrets/own.age', 'b'), undefined);
  assert.equal(await open(scene, 'secrets/shared.age', 'b'), `shared ${CANARY}`);
  assert.equal(await open(scene, 'secrets/shared.age', 'a'), undefined);
  assert.equal((await release(scene)).finished.outcome, 'nothing-to-do');
});

test('ci run re-keys each secret for exactly its hosts, and leaves out what nobody uses', async () => {
  const scene = await secretScene();
  const run = await release(scene);
  assert.equal(run.code, 0, JSON.stringify(run.problems));
  assert.deepEqual([run.stages['rekey'], run.stages['test']], ['ok', 'ok']);
  assert.equal(await open(scene, 'secrets/own.age', 'a'), `own ${CANARY}`);
  assert.equal(await open(scene, 'secrets/shared.age', 'a'), `shared ${CANARY}`);
  assert.equal(await open(scene, 'secrets/shared.age', 'b'), `shared ${CANARY}`);
  assert.equal(await open(scene, 'secrets/own.age', 'b'), undefined);
  for (const reader of ['editor', 'rekey'])
    assert.equal(await open(scene, 'secrets/shared.age', reader), undefined);
  const files = await scene.forge('ls-tree', '-r', '--name-only', 'release');
  assert.equal(files.includes('secrets/unused.age'), false);
});

test('ci run keeps re-keyed files as they are, so that only hosts that changed are built', async () => {
  const scene = await secretScene();
  await release(scene);
  const before = await scene.forge('rev-parse', 'release:secrets/shared.age');
  await scene.setVersion('b', '2');
  await scene.push('b is new');
  const run = await release(scene);
  assert.deepEqual(run.phases, { a: 'unchanged', b: 'built', c: 'unchanged' });
  assert.equal(await scene.forge('rev-parse', 'release:secrets/shared.age'), before);

  await putSecret(scene, 'own', `another ${CANARY}`);
  await scene.push('A new value for a');
  const second = await release(scene);
  assert.deepEqual(second.phases, { a: 'built', b: 'unchanged', c: 'unchanged' });
  assert.equal(await open(scene, 'secrets/own.age', 'a'), `another ${CANARY}`);
});

test('ci run builds nothing when an editor only re-encrypted a secret', async () => {
  const scene = await secretScene();
  await release(scene);
  await putSecret(scene, 'shared', `shared ${CANARY}`);
  await scene.push('Encrypted anew, same value');
  const run = await release(scene);
  assert.equal(run.code, 0, JSON.stringify(run.problems));
  assert.deepEqual(run.phases, { a: 'unchanged', b: 'unchanged', c: 'unchanged' });
});

test('ci run names the host that lacks a key, and publishes nothing', async () => {
  const scene = await secretScene();
  scene.fleet.slipway = { hosts: { a: { publicKey: await publicKey('a') } } };
  await scene.push('No key for b');
  const run = await release(scene);
  assert.equal(run.code, ERROR_CODES.secrets_failed.exit);
  assert.match(run.finished.note, /b uses secrets but has no public key/);
  assert.match(run.problems[0]?.next ?? '', /slipway\.hosts\.b\.publicKey/);
  assert.equal(await scene.tip('release'), undefined);
});

test('ci run asks for the re-key identity; ci build does without it and builds the source', async () => {
  const scene = await secretScene();
  const run = await scene.release();
  assert.equal(run.code, ERROR_CODES.secrets_failed.exit);
  assert.match(run.problems[0]?.next ?? '', /--rekey-identity/);
  const built = await scene.ci('build');
  assert.equal(built.code, 0, JSON.stringify(built.problems));
  assert.deepEqual(built.phases, { a: 'built', b: 'built', c: 'built' });
});

test('a plaintext is in no event, no git object and no file of a run', async () => {
  const scene = await secretScene();
  const run = await release(scene, '--logs');
  assert.equal(JSON.stringify(run.events).includes(CANARY), false);
  assert.equal(run.stderr.includes(CANARY), false);
  const found = await world.run([
    'grep',
    '--recursive',
    '--files-with-matches',
    CANARY,
    world.folder,
    '/nix/store',
  ]);
  assert.equal(found.stdout.toString('utf8'), '');
  const objects = await scene.forge('cat-file', '--batch-all-objects', '--batch');
  assert.equal(objects.includes(CANARY), false);
});
