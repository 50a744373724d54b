// The ways in which a release is published: signed commits, rollbacks as new releases, detached history in a repository of
// its own, testing branches. On real git with real ssh and GPG signatures.
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ERROR_CODES } from '../../src/util/errors.ts';
import { openWorld, type World } from './lab/world.ts';
import { openSecretScene, SecretScene } from './secrets-scene.ts';
import { openScene } from './pipeline-scene.ts';

let world: World;
before(async () => {
  world = await openWorld();
});
after(async () => {
  await world[Symbol.asyncDispose]();
});

test('ci run signs release and manifest commits by an ssh key, and goes on only on top of a signed one', async () => {
  const fleet = await openSecretScene(world);
  const signers = join(fleet.folder, 'signers');
  const signing = await fleet.keygen('signing');
  await writeFile(signers, `slipway ${fleet.publicKey('signing')}\n`);
  await fleet.scene.setVersion('a', '2');
  await fleet.scene.push('a is new');
  const refused = await fleet.release('--allowed-signers', signers);
  assert.equal(refused.code, ERROR_CODES.signature_invalid.exit);
  assert.match(refused.problems[0]?.message ?? '', /carries no signature/);

  const signed = await fleet.release('--commit-signing-key', signing);
  assert.equal(signed.finished.outcome, 'done', JSON.stringify(signed.problems));
  const verify = ['-c', 'gpg.format=ssh', '-c', `gpg.ssh.allowedSignersFile=${signers}`, 'verify-commit'];
  for (const branch of ['release', 'release-manifest']) await fleet.scene.forge(...verify, branch);
  await fleet.scene.setVersion('a', '3');
  await fleet.scene.push('a is newer');
  const both = ['--allowed-signers', signers, '--commit-signing-key', signing];
  assert.equal((await fleet.release(...both)).finished.outcome, 'done');

  await writeFile(signers, `slipway ${fleet.publicKey('editor')}\n`);
  await fleet.scene.setVersion('a', '4');
  await fleet.scene.push('a is newest');
  const stranger = await fleet.release(...both);
  assert.equal(stranger.code, ERROR_CODES.signature_invalid.exit);
});

test('ci run signs by a GPG key, as comin of today wants it', async () => {
  const fleet = await openSecretScene(world);
  const home = join(fleet.folder, 'gpg');
  await mkdir(home, { mode: 0o700 });
  const gpg = ['gpg', '--homedir', home, '--batch'];
  await world.runText([
    ...gpg,
    '--passphrase',
    '',
    '--quick-generate-key',
    'slipway@test',
    'ed25519',
    'sign',
  ]);
  await fleet.scene.setVersion('a', '2');
  await fleet.scene.push('a is new');
  const args = [...fleet.releaseArguments(), '--commit-signing-gpg', 'slipway@test'];
  const run = await fleet.scene.releaseWith({ GNUPGHOME: home }, ...args);
  assert.equal(run.finished.outcome, 'done', JSON.stringify(run.problems));
  const argv = ['git', '-C', fleet.scene.remote.path, 'verify-commit', '--raw', 'release'];
  const verified = await world.run(argv, { env: { GNUPGHOME: home } });
  assert.equal(verified.code, 0, verified.stderr);
  await world.run(['gpgconf', '--homedir', home, '--kill', 'all']);
});

test('a rollback is a new release with the old tree, and the next run does not undo it', async () => {
  const fleet = await openSecretScene(world);
  const good = await fleet.scene.manifest();
  await fleet.seal('secrets/hello.age', 'a broken greeting');
  await fleet.scene.setVersion('a', '2');
  const bad = await fleet.scene.push('a is new, and bad');
  assert.equal((await fleet.release()).finished.outcome, 'done');
  const branch = await fleet.scene.tip('release');

  const back = await fleet.release('--rollback-to', '1');
  assert.equal(back.finished.outcome, 'done', JSON.stringify(back.problems));
  const manifest = await fleet.scene.manifest();
  assert.deepEqual([manifest.serial, manifest.source, manifest.previous], [3, good.source, branch]);
  assert.equal(manifest.tree, good.tree, 'the very ciphertexts of the good release');
  assert.deepEqual(manifest.hosts['a']?.toplevel, good.hosts['a']?.toplevel);
  const message = await fleet.scene.forge('log', '-1', '--format=%B', 'release');
  assert.match(message, new RegExp(`Slipway-Rollback-To: ${good.commit}`));
  assert.match(message, new RegExp(`Slipway-Rollback-From: ${bad}`));

  const next = await fleet.release();
  assert.equal(next.finished.outcome, 'nothing-to-do');
  assert.match(next.finished.note, /rolled .* back/);
  assert.equal((await fleet.scene.manifest()).serial, 3);
  const again = await fleet.release('--rollback-to', '2');
  assert.equal(again.finished.outcome, 'done', JSON.stringify(again.problems));
  assert.equal((await fleet.scene.manifest()).source, bad);

  const unknown = await fleet.release('--rollback-to', '77');
  assert.equal(unknown.code, ERROR_CODES.not_found.exit);
  await fleet.scene.setVersion('a', '3');
  await fleet.scene.push('a is repaired');
  assert.equal((await fleet.release()).finished.outcome, 'done');
});

test('a rollback of a rollback still holds back everything that was rolled back', async () => {
  const fleet = await openSecretScene(world);
  for (const version of ['2', '3']) {
    await fleet.scene.setVersion('a', version);
    await fleet.scene.push(`a ${version}`);
    assert.equal((await fleet.release()).finished.outcome, 'done');
  }
  assert.equal((await fleet.release('--rollback-to', '2')).finished.outcome, 'done');
  assert.equal((await fleet.release('--rollback-to', '1')).finished.outcome, 'done');
  assert.match((await fleet.release()).finished.note, /rolled .* back/);
});

test('detached releases in a repository of their own hold no ciphertext of an editor', async () => {
  const fleet = new SecretScene(world, await openScene(world));
  fleet.settings = { release: { history: 'detached' } };
  await fleet.fill();
  const releases = await world.git.create('releases');
  const publish = ['--remote', releases.url];
  for (const version of ['1', '2']) {
    await fleet.scene.setVersion('a', version);
    await fleet.scene.push(`a ${version}`);
    const run = await fleet.release(...publish);
    assert.equal(run.finished.outcome, 'done', JSON.stringify(run.problems));
  }
  const git = async (path: string, ...args: readonly string[]): Promise<string> =>
    (await world.runText(['git', '-C', path, ...args])).trim();
  assert.equal(await git(releases.path, 'rev-list', '--count', 'release'), '2');
  assert.equal(await git(fleet.scene.remote.path, 'branch', '--format=%(refname:short)'), 'main');
  const source = await git(fleet.scene.remote.path, 'rev-parse', 'main:secrets/db.age');
  const missing = await world.run(['git', '-C', releases.path, 'cat-file', '-e', source]);
  assert.notEqual(missing.code, 0, 'the editors’ ciphertext is not there');
  assert.equal(await fleet.open('release', 'secrets/db.age', 'a', releases.path), 'the database password');
  await assert.rejects(fleet.open('release', 'secrets/db.age', 'editor', releases.path));
  const repeated = await fleet.release(...publish);
  assert.equal(repeated.finished.outcome, 'nothing-to-do');
});

test('--testing releases a branch to one host, on top of the release and with its secrets alone', async () => {
  const fleet = await openSecretScene(world);
  const release = await fleet.scene.tip('release');
  await fleet.scene.setVersion('a', 'try');
  await fleet.scene.commit('Try it on a');
  await fleet.scene.git('push', '--quiet', 'origin', 'HEAD:try');
  const args = ['--source-branch', 'try', '--testing', 'a'];
  const run = await fleet.release(...args);
  assert.equal(run.finished.outcome, 'done', JSON.stringify(run.problems));
  assert.equal(await fleet.scene.tip('release'), release);
  const first = await fleet.scene.tip('release-testing-a');
  await fleet.scene.forge('merge-base', '--is-ancestor', release ?? '', 'release-testing-a');
  assert.equal(await fleet.open('release-testing-a', 'secrets/db.age', 'a'), 'the database password');
  await assert.rejects(fleet.open('release-testing-a', 'secrets/hello.age', 'b'));
  const shown = await fleet.scene.forge('show', 'release-testing-a-manifest:manifest.json');
  assert.deepEqual(Object.keys((JSON.parse(shown) as { hosts: object }).hosts), ['a']);

  await fleet.scene.setVersion('b', '2');
  await fleet.scene.git('checkout', '--quiet', '--detach', 'origin/main');
  await fleet.scene.setVersion('b', '2');
  await fleet.scene.push('b is new');
  assert.equal((await fleet.release()).finished.outcome, 'done');
  await fleet.scene.setVersion('a', 'try again');
  await fleet.scene.commit('Try it again on a');
  await fleet.scene.git('push', '--quiet', '--force', 'origin', 'HEAD:try');
  const again = await fleet.release(...args);
  assert.equal(again.finished.outcome, 'done', JSON.stringify(again.problems));
  for (const below of [first ?? '', 'release'])
    await fleet.scene.forge('merge-base', '--is-ancestor', below, 'release-testing-a');
});

test('--testing asks for approval of what the release does not give, on every branch', async () => {
  const fleet = await openSecretScene(world);
  fleet.use({ a: ['db', 'hello'], b: ['hello'] });
  await fleet.scene.commit('a wants the greeting');
  await fleet.scene.git('push', '--quiet', 'origin', 'HEAD:try');
  const run = await fleet.release('--source-branch', 'try', '--testing', 'a');
  assert.match(run.problems[0]?.message ?? '', /\+ a may now read secrets\/hello\.age/);
  assert.equal(await fleet.scene.tip('release-testing-a'), undefined);
});
