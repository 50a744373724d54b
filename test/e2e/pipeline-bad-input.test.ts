// Bad input to `slipway ci run`: each gets one clear message with its cause, a next step and a code, and nothing of it
// reaches the forge.
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ERROR_CODES, type ErrorCode } from '../../src/util/errors.ts';
import { openWorld, type World } from './lab/world.ts';
import { openScene, type PipelineScene, type SceneRun } from './pipeline-scene.ts';

let world: World;
before(async () => {
  world = await openWorld();
});
after(async () => {
  await world[Symbol.asyncDispose]();
});

/** One problem, told once, with a next step; the run's exit code is the problem's; nothing was published. */
async function assertRefused(
  scene: PipelineScene,
  run: SceneRun,
  expected: { readonly code: ErrorCode; readonly says: RegExp },
): Promise<void> {
  assert.equal(run.finished.outcome, 'failed');
  assert.equal(run.problems.length, 1, JSON.stringify(run.problems));
  const [problem] = run.problems;
  assert.equal(problem?.code, expected.code, problem?.message);
  assert.match(problem?.message ?? '', expected.says);
  assert.ok(problem?.next, `no next step: ${problem?.message}`);
  assert.equal(run.code, ERROR_CODES[expected.code].exit);
  assert.equal(await scene.tip('release'), undefined);
}

test('ci run refuses a checkout with changes that are in no commit, unless told to leave them out', async () => {
  const scene = await openScene(world);
  await scene.setVersion('a', 'dirty');
  const args = ['ci', 'run', '--repository', '.', '--signing-key', scene.signingKey, '--no-deploy'];
  const run = await scene.slipway(...args);
  await assertRefused(scene, run, { code: 'repository_unusable', says: /changes.*hosts\/a\/version/ });
  const allowed = await scene.slipway(...args, '--allow-dirty');
  assert.equal(allowed.code, 0, JSON.stringify(allowed.problems));
  assert.equal((await scene.manifest()).source, await scene.git('rev-parse', 'HEAD'));
});

test('ci run names a folder that is missing, and one that is no repository', async () => {
  const scene = await openScene(world);
  for (const [path, says] of [
    ['/nowhere', /no folder \/nowhere/],
    ['/etc', /not in a git repository/],
  ] as const) {
    const args = ['ci', 'run', '--repository', path, '--signing-key', scene.signingKey];
    await assertRefused(scene, await scene.slipway(...args), { code: 'repository_unusable', says });
  }
});

test('ci run names a repository that the forge does not have, and a forge that is not there', async () => {
  const scene = await openScene(world);
  const missing = scene.remote.url.replace(/[^/]+$/, 'nothing.git');
  const key = ['--signing-key', scene.signingKey];
  const absent = await scene.slipway('ci', 'run', '--repository', missing, ...key);
  await assertRefused(scene, absent, { code: 'repository_unusable', says: /nothing\.git/ });
  const dead = await scene.slipway('ci', 'run', '--repository', 'http://127.0.0.1:9/fleet.git', ...key);
  await assertRefused(scene, dead, { code: 'unavailable', says: /no connection/i });
});

test('ci run refuses a shallow clone, and takes a detached checkout', async () => {
  const scene = await openScene(world);
  await scene.push('A second commit');
  const shallow = join(world.folder, 'shallow');
  await world.runText(['git', 'clone', '--quiet', '--depth', '1', scene.remote.url, shallow]);
  const key = ['--signing-key', scene.signingKey, '--no-deploy'];
  const cut = await scene.slipway('ci', 'run', '--repository', shallow, ...key);
  await assertRefused(scene, cut, { code: 'repository_unusable', says: /shallow clone/ });
  await scene.git('checkout', '--quiet', '--detach');
  const run = await scene.slipway('ci', 'run', '--repository', '.', ...key);
  assert.equal(run.code, 0, JSON.stringify(run.problems));
  assert.equal((await scene.manifest()).source, await scene.git('rev-parse', 'HEAD'));
});

test('ci run lists the branches when the named one is not there', async () => {
  const scene = await openScene(world);
  const run = await scene.release('--source-branch', 'develop');
  await assertRefused(scene, run, { code: 'repository_unusable', says: /no branch develop/ });
  assert.match(run.problems[0]?.next ?? '', /main/);
});

test('ci run explains a flake that does not parse, with the place', async () => {
  const scene = await openScene(world);
  await scene.write('flake.nix', '{\n  outputs = { self }: {\n    nixosConfigurations = ;\n  };\n}\n');
  await scene.push('A syntax error');
  await assertRefused(scene, await scene.release(), {
    code: 'evaluation_failed',
    says: /syntax error[^]*flake\.nix:3/,
  });
});

test('ci run says that there is no flake.nix', async () => {
  const scene = await openScene(world);
  await rm(join(scene.checkout, 'flake.nix'));
  await scene.push('No flake');
  const run = await scene.release();
  await assertRefused(scene, run, { code: 'evaluation_failed', says: /no flake\.nix/ });
});

test('ci run says where the slipway output is wrong', async () => {
  const scene = await openScene(world);
  scene.fleet.slipway = { hosts: { a: { mode: 'psuh', health: { http: [{ url: 'gopher://a' }] } } } };
  await scene.push('Typing errors');
  const run = await scene.release();
  await assertRefused(scene, run, { code: 'invalid', says: /hosts\.a\.mode.*push/ });
  assert.match(run.problems[0]?.message ?? '', /hosts\.a\.health\.http\[0\]\.url/);
});

test('ci run refuses settings for a host that does not exist', async () => {
  const scene = await openScene(world);
  scene.fleet.slipway = { hosts: { z: { mode: 'push' } } };
  await scene.push('Who is z?');
  await assertRefused(scene, await scene.release(), { code: 'invalid', says: /slipway\.hosts\.z/ });
});

test('ci run refuses a fleet without hosts', async () => {
  const scene = await openScene(world);
  scene.fleet.hosts = {};
  scene.fleet.slipway = {};
  await scene.push('Nobody here');
  await assertRefused(scene, await scene.release(), { code: 'invalid', says: /no nixosConfigurations/ });
});

test('ci run stops when no host evaluates', async () => {
  const scene = await openScene(world);
  for (const host of ['a', 'b', 'c']) scene.fleet.hosts[host] = { throws: `${host} is broken` };
  await scene.push('All broken');
  const run = await scene.release();
  assert.equal(run.code, ERROR_CODES.evaluation_failed.exit);
  assert.match(run.finished.note, /No host evaluates/);
  const told = run.problems.flatMap((one) => one.host ?? []);
  assert.deepEqual(new Set(told), new Set(['a', 'b', 'c']));
  assert.equal(await scene.tip('release'), undefined);
});

test('ci run stops an evaluation that outgrows its memory, and goes on with the other hosts', async () => {
  const scene = await openScene(world);
  scene.fleet.hosts['b'] = { hog: 5_000_000 };
  await scene.push('b wants it all');
  const run = await scene.release('--eval-memory', '200');
  assert.equal(run.code, ERROR_CODES.too_large.exit);
  const [problem, ...more] = run.problems;
  assert.equal(more.length, 0);
  assert.equal(problem?.host, 'b');
  assert.match(problem?.message ?? '', /its limit is 200 MiB/);
  assert.match(problem?.next ?? '', /--eval-memory/);
  assert.deepEqual(Object.keys((await scene.manifest()).hosts), ['a', 'c']);
});

test('ci run needs a signing key that is one', async () => {
  const scene = await openScene(world);
  const run = ['ci', 'run', '--repository', scene.remote.url, '--no-deploy'];
  await assertRefused(scene, await scene.slipway(...run), { code: 'invalid', says: /needs a key/ });
  const absent = await scene.slipway(...run, '--signing-key', '/nowhere');
  await assertRefused(scene, absent, { code: 'invalid', says: /\/nowhere cannot be read/ });
  await writeFile(scene.signingKey, 'not a key');
  const wrong = await scene.slipway(...run, '--signing-key', scene.signingKey);
  await assertRefused(scene, wrong, { code: 'invalid', says: /key/ });
});

test('ci run refuses a release branch that Slipway did not make', async () => {
  const scene = await openScene(world);
  await scene.git('push', '--quiet', 'origin', 'HEAD:release');
  const run = await scene.release();
  assert.equal(run.code, ERROR_CODES.publish_conflict.exit);
  assert.match(run.finished.note, /not made by Slipway/);
});

test('ci run refuses to go on from a release of another key, and from a tip that somebody pushed', async () => {
  const scene = await openScene(world);
  await scene.release();
  const other = await openScene(world);
  const stranger = await scene.ci('run', '--signing-key', other.signingKey, '--no-deploy');
  assert.equal(stranger.code, ERROR_CODES.signature_invalid.exit);
  assert.match(stranger.finished.note, /not signed by a key of this pipeline/);

  await scene.git('fetch', '--quiet', 'origin', 'release');
  await scene.git('checkout', '--quiet', '--detach', 'FETCH_HEAD');
  await scene.git('commit', '--quiet', '--allow-empty', '--message', 'By hand');
  await scene.git('push', '--quiet', 'origin', 'HEAD:release');
  await scene.git('checkout', '--quiet', 'main');
  const tampered = await scene.release();
  assert.equal(tampered.code, ERROR_CODES.publish_conflict.exit);
  assert.match(tampered.finished.note, /somebody else wrote to the branch/);
  assert.equal((await scene.manifest()).serial, 1);
});

test('ci run refuses an older or rewritten source, unless it is meant to be a rollback', async () => {
  const scene = await openScene(world);
  const first = await scene.git('rev-parse', 'HEAD');
  await scene.setVersion('a', '2');
  await scene.push('a is new');
  await scene.release();
  const newest = await scene.tip('release');
  const older = await scene.release('--commit', first);
  assert.equal(older.code, ERROR_CODES.publish_conflict.exit);
  assert.match(older.finished.note, /does not contain/);
  const meant = await scene.release('--commit', first, '--allow-rollback');
  assert.equal(meant.code, 0, JSON.stringify(meant.problems));
  const { serial, source } = await scene.manifest();
  assert.deepEqual([serial, source], [2, first]);
  assert.equal(await scene.forge('log', '--format=%P', '-1', 'release'), `${newest} ${first}`);
});

test('ci run says where slipway:<cache> is to be told', async () => {
  const scene = await openScene(world);
  scene.fleet.slipway = { caches: ['slipway:main'] };
  await scene.push('A cache');
  await assertRefused(scene, await scene.release(), { code: 'invalid', says: /slipway:main/ });
});

test('ci run publishes nothing when the forge declines the push', async () => {
  const scene = await openScene(world);
  await writeFile(
    join(scene.remote.path, 'hooks/pre-receive'),
    '#!/bin/sh\necho protected branch >&2\nexit 1\n',
    {
      mode: 0o755,
    },
  );
  const run = await scene.release();
  await assertRefused(scene, run, { code: 'forbidden', says: /protected branch/ });
});

test('two runs at once: one waits for the other, and both end well', async () => {
  const scene = await openScene(world);
  const [one, other] = await Promise.all([scene.release(), scene.release()]);
  const outcomes = [one, other].map((run) => run.finished.outcome).toSorted((a, b) => (a < b ? -1 : 1));
  assert.deepEqual(outcomes, ['done', 'nothing-to-do'], JSON.stringify([one.problems, other.problems]));
  assert.equal((await scene.manifest()).serial, 1);
});

test('a run that loses the race for the branch plans again on top of the winner', async () => {
  const scene = await openScene(world);
  await scene.release();
  await scene.setVersion('a', '2');
  await scene.push('a is new');
  // The hook stands for another pipeline of the same key: it publishes between our fetch and our push, once.
  const race = `#!/bin/sh
[ -e "$GIT_DIR/raced" ] && exit 0
touch "$GIT_DIR/raced"
exec >&2
unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
cd / && "${world.repository}/bin/slipway" ci run --repository "${scene.remote.url}" --signing-key "${scene.signingKey}" --no-deploy --state-dir "${world.folder}/racer-state"
`;
  await writeFile(join(scene.remote.path, 'hooks/pre-receive'), race, { mode: 0o755 });
  const run = await scene.release();
  assert.equal(run.code, 0, JSON.stringify(run.problems));
  assert.equal(run.finished.outcome, 'nothing-to-do');
  assert.equal((await scene.manifest()).serial, 2);
});
