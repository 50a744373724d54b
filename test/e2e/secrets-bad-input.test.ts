// Bad input to a release with secrets: every problem of a commit is told at once, nothing is published, nothing is lost, and
// no plaintext turns up anywhere, whatever fails.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ERROR_CODES } from '../../src/util/errors.ts';
import { openWorld, type World } from './lab/world.ts';
import { type SceneRun } from './pipeline-scene.ts';
import { openSecretScene, type SecretScene } from './secrets-scene.ts';

const CANARY = `canary-${randomBytes(12).toString('hex')}`;

let world: World;
before(async () => {
  world = await openWorld();
});
after(async () => {
  await world[Symbol.asyncDispose]();
});

/** Every git object of the repositories, every file of the world's disk, and what the runs printed. */
async function assertNoLeak(fleet: SecretScene, runs: readonly SceneRun[]): Promise<void> {
  const printed = runs.map((run) => JSON.stringify(run.events) + run.stderr).join('');
  assert.ok(!printed.includes(CANARY), 'what a run prints, which is what a server stores');
  const mirrors = await world.runText(['find', fleet.scene.stateDirectory, '-name', 'mirror.git']);
  for (const repository of [...mirrors.trim().split('\n'), fleet.scene.remote.path]) {
    const argv = ['git', '-C', repository, 'cat-file', '--batch', '--batch-all-objects', '--buffer'];
    const { stdout } = await world.run(argv, { maxOutput: 512 * 1024 * 1024 });
    assert.ok(stdout.includes('nixosConfigurations'), `${repository} shows its objects`);
    assert.ok(!stdout.includes(CANARY), repository);
  }
  const places = [world.folder, '/tmp', '/nix', '/dev/shm'];
  const grep = ['grep', '-rlaF', '--devices=skip', '-s', '-f', '-', '--', ...places];
  const found = await world.run(grep, { input: `${CANARY}\n`, timeoutMs: 120_000 });
  assert.equal(found.stdout.toString('utf8'), '');
}

test('a commit with many faults hears of all of them at once; nothing is published, nothing leaks', async () => {
  const fleet = await openSecretScene(world);
  const before = [await fleet.scene.tip('release'), await fleet.scene.tip('release-manifest')];
  await fleet.keygen('stranger');
  const bad = {
    empty: async (path: string) => await fleet.seal(path, ''),
    stranger: async (path: string) => {
      const output = join(fleet.scene.checkout, path);
      await world.runText(['age', '-r', fleet.publicKey('stranger'), '-o', output], { input: CANARY });
    },
    text: async (path: string) => await fleet.scene.write(path, 'not an age file'),
    armor: async (path: string) => {
      const armored = '-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END PGP MESSAGE-----\n';
      await fleet.scene.write(path, armored);
    },
    cut: async (path: string) => {
      await fleet.seal(path, CANARY);
      await world.runText(['truncate', '-s', '-3', join(fleet.scene.checkout, path)]);
    },
    good: async (path: string) => await fleet.seal(path, CANARY),
  };
  for (const [name, write] of Object.entries(bad)) await write(`secrets/${name}.age`);
  fleet.use({
    a: ['db', 'empty', 'stranger', 'text', 'armor', 'cut', 'good', 'absent'],
    b: ['hello', 'with blank'],
  });
  await fleet.scene.write('secrets/with blank.age', 'x');
  const { fleet: scene } = fleet.scene;
  const slipway = scene.slipway as { hosts: Record<string, { publicKey?: string }> };
  slipway.hosts['c'] = {
    publicKey: 'ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA==',
  };
  scene.hosts['c'] = { secrets: { hello: 'secrets/hello.age' } };
  await fleet.scene.push('Everything is wrong');
  const run = await fleet.release();
  assert.equal(run.code, ERROR_CODES.secrets_failed.exit);
  const message = run.problems[0]?.message ?? '';
  for (const fault of [
    /secrets\/empty\.age holds an empty secret/,
    /secrets\/stranger\.age is not encrypted to the re-key identity/,
    /secrets\/text\.age: /,
    /secrets\/armor\.age: /,
    /secrets\/cut\.age is damaged/,
    /the file secrets\/absent\.age is not in the commit/,
    /the path "secrets\/with blank\.age" is refused/,
    /The public key of c cannot be used/,
    /\+ a may now read secrets\/good\.age/,
  ])
    assert.match(message, fault);
  assert.deepEqual([await fleet.scene.tip('release'), await fleet.scene.tip('release-manifest')], before);
  assert.equal(await fleet.open('release', 'secrets/db.age', 'a'), 'the database password');
  await assertNoLeak(fleet, [run]);

  const unusable = await fleet.scene.release('--rekey-identity', join(fleet.folder, 'a.key.pub'));
  assert.equal(unusable.code, ERROR_CODES.secrets_failed.exit);
  const none = await fleet.scene.release();
  assert.equal(none.code, ERROR_CODES.secrets_failed.exit);
  await assertNoLeak(fleet, [run, unusable, none]);
});

test('two hosts with one key are told as a cloned machine', async () => {
  const fleet = await openSecretScene(world);
  fleet.keys.set('b', fleet.publicKey('a'));
  fleet.use({ a: ['db'], b: ['hello'] });
  await fleet.scene.push('b is a clone of a');
  const run = await fleet.release();
  assert.match(run.problems[0]?.message ?? '', /a and b have the same key SHA256:/);
});

test('two pipelines that release at once both end well, and no secret is lost', async () => {
  const fleet = await openSecretScene(world);
  await fleet.seal('secrets/db.age', CANARY);
  await fleet.scene.push('A new password');
  const { scene } = fleet;
  const start = async (name: string): Promise<string> => {
    const args = [
      'ci',
      'run',
      '--repository',
      scene.remote.url,
      '--signing-key',
      scene.signingKey,
      '--no-deploy',
    ];
    const state = ['--state-dir', join(fleet.folder, name), '--json'];
    const config =
      'experimental-features = nix-command flakes\nsubstituters =\nbuild-users-group =\nsandbox = false\n';
    const result = await world.slipway([...args, ...fleet.releaseArguments(), ...state], {
      env: { NIX_CONFIG: config },
    });
    assert.equal(result.code, 0, result.stderr + result.stdout.toString('utf8'));
    return result.stdout.toString('utf8');
  };
  const told = await Promise.all([start('one'), start('two')]);
  assert.equal(
    await scene.forge('rev-list', '--first-parent', '--count', 'release', '^main'),
    '2',
    told.join('\n'),
  );
  assert.equal(await fleet.open('release', 'secrets/db.age', 'a'), CANARY);
  assert.ok(!told.join('').includes(CANARY));
});

test('a release branch that somebody else wrote to, and a source that is not newer, are refused', async () => {
  const fleet = await openSecretScene(world);
  const { scene } = fleet;
  const first = await scene.git('rev-parse', 'HEAD');
  await scene.setVersion('a', '2');
  await scene.push('a is new');
  assert.equal((await fleet.release()).finished.outcome, 'done');
  const older = await fleet.release('--commit', first);
  assert.equal(older.code, ERROR_CODES.publish_conflict.exit);
  assert.match(older.problems[0]?.message ?? '', /does not contain/);

  const tip = await scene.tip('release');
  await scene.forge('update-ref', 'refs/heads/release', 'refs/heads/main');
  const moved = await fleet.release();
  assert.equal(moved.code, ERROR_CODES.publish_conflict.exit);
  assert.match(moved.problems[0]?.message ?? '', /somebody else wrote to the branch/);
  await scene.forge('update-ref', 'refs/heads/release', tip ?? '');
  assert.equal((await fleet.release()).finished.outcome, 'nothing-to-do');
});
