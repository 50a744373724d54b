// `slipway ci run` from a commit to a published release, on real nix and a real git forge.
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { signedManifestBytes } from '../../src/api/manifest.ts';
import { parsePublicKey, parseSecretKey, publicKeyOf, verifyText } from '../../src/nix/signature.ts';
import { ERROR_CODES } from '../../src/util/errors.ts';
import { openWorld, type World } from './lab/world.ts';
import { openScene, underLoad } from './pipeline-scene.ts';

let world: World;
before(async () => {
  world = await openWorld();
});
after(async () => {
  await world[Symbol.asyncDispose]();
});

test('ci run publishes a signed release on top of its source, then has nothing to do', async () => {
  const scene = await openScene(world);
  const source = await scene.git('rev-parse', 'HEAD');
  const first = await scene.release();
  assert.equal(first.code, 0, JSON.stringify(first.problems));
  assert.equal(first.finished.outcome, 'done');
  assert.deepEqual(first.stages, {
    evaluate: 'ok',
    rekey: 'ok',
    build: 'ok',
    test: 'skipped',
    cache: 'skipped',
    publish: 'ok',
    deploy: 'skipped',
  });
  const manifest = await scene.manifest();
  assert.equal(manifest.serial, 1);
  assert.equal(manifest.source, source);
  assert.equal(manifest.commit, await scene.tip('release'));
  assert.equal(await scene.forge('rev-parse', 'release^{tree}'), manifest.tree);
  assert.equal(await scene.forge('log', '--format=%P', '-1', 'release'), source);
  assert.match(
    await scene.forge('log', '--format=%B', '-1', 'release'),
    new RegExp(`Slipway-Source: ${source}`),
  );
  assert.deepEqual(
    Object.entries(manifest.hosts).map(([host, { mode, state }]) => `${host} ${mode} ${state}`),
    ['a push built', 'b pull built', 'c manual built'],
  );

  const second = await scene.release();
  assert.equal(second.code, 0);
  assert.equal(second.finished.outcome, 'nothing-to-do');
  assert.match(second.finished.note, /release 1 was made from this commit/);
  assert.deepEqual(second.phases, { a: 'unchanged', b: 'unchanged', c: 'unchanged' });
  const own = second.events.find((event) => event.kind === 'span' && !event.outside);
  assert.ok(own?.kind === 'span' && own.ms < underLoad(1500), `own time ${JSON.stringify(own)}`);
});

test('ci run signs the manifest with the given key over its exact bytes', async () => {
  const scene = await openScene(world);
  await scene.release();
  const file = await scene.forge('cat-file', 'blob', 'release-manifest:manifest.json');
  const signature = await scene.forge('cat-file', 'blob', 'release-manifest:manifest.json.sig');
  const key = parsePublicKey(publicKeyOf(parseSecretKey(await scene.readSigningKey())));
  const bytes = signedManifestBytes(Buffer.from(`${file}\n`));
  assert.equal(verifyText([key], bytes, signature), true);
});

test('ci run builds only the host that changed, and the branch only grows', async () => {
  const scene = await openScene(world);
  await scene.release();
  const before = await scene.tip('release');
  await scene.setVersion('b', '2');
  const source = await scene.push('b is new');
  const run = await scene.release();
  assert.equal(run.code, 0);
  assert.deepEqual(run.phases, { a: 'unchanged', b: 'built', c: 'unchanged' });
  const manifest = await scene.manifest();
  assert.equal(manifest.serial, 2);
  assert.equal(manifest.previous, before);
  assert.equal(await scene.forge('log', '--format=%P', '-1', 'release'), `${before} ${source}`);
});

test('ci run makes no release of a commit with the same content', async () => {
  const scene = await openScene(world);
  await scene.release();
  await scene.push('An empty commit');
  const run = await scene.release();
  assert.equal(run.finished.outcome, 'nothing-to-do');
  assert.match(run.finished.note, /same content as release 1/);
  assert.equal((await scene.manifest()).serial, 1);
});

test('ci run leaves a host behind whose evaluation throws, and says why', async () => {
  const scene = await openScene(world);
  await scene.release();
  const old = (await scene.manifest()).hosts['b']?.toplevel;
  scene.fleet.hosts['b'] = { throws: 'the disk layout of b is not known' };
  await scene.setVersion('a', '2');
  await scene.push('b is broken, a is new');
  const run = await scene.release();
  assert.equal(run.code, ERROR_CODES.evaluation_failed.exit);
  assert.equal(run.finished.outcome, 'failed');
  const [problem, ...more] = run.problems;
  assert.equal(more.length, 0);
  assert.equal(problem?.host, 'b');
  assert.match(problem?.message ?? '', /the disk layout of b is not known/);
  assert.ok(problem?.next);
  const { serial, hosts } = await scene.manifest();
  assert.equal(serial, 2);
  assert.deepEqual([hosts['b']?.state, hosts['b']?.toplevel], ['kept', old]);
  assert.equal(hosts['a']?.state, 'built');
});

test('ci run names the derivation, its last lines and the command to repeat a failed build', async () => {
  const scene = await openScene(world);
  scene.fleet.hosts['a'] = { build: 'echo cannot find the frobnicator; exit 3' };
  await scene.push('a does not build');
  const run = await scene.release();
  assert.equal(run.code, ERROR_CODES.build_failed.exit);
  const problem = run.problems.find((one) => one.host === 'a');
  assert.match(problem?.message ?? '', /nixos-system-a-test/);
  assert.match(problem?.message ?? '', /cannot find the frobnicator/);
  assert.match(problem?.next ?? '', /nix-store --realise \/nix\/store\/.*\.drv/);
  assert.match(problem?.next ?? '', /nix build -L '.*nixosConfigurations\.a\./);
  assert.deepEqual(Object.keys((await scene.manifest()).hosts), ['b', 'c']);
});

test('ci run traces hosts that fail together to the derivation that broke them', async () => {
  const scene = await openScene(world);
  scene.fleet.hosts = { a: { shared: true }, b: { shared: true }, c: {} };
  scene.fleet.shared = 'echo the compiler gave up; exit 1';
  await scene.push('The shared tool is broken');
  const run = await scene.release();
  assert.equal(run.code, ERROR_CODES.build_failed.exit);
  const [a, b] = ['a', 'b'].map((host) => run.problems.find((one) => one.host === host)?.message ?? '');
  assert.match(a ?? '', /failed in shared-tool[^]*the compiler gave up/);
  assert.match(b ?? '', /failed in shared-tool[^]*same derivation as a/);
});

test('ci run stops before publishing when a required host does not build', async () => {
  const scene = await openScene(world);
  scene.fleet.slipway = { hosts: { a: { required: true } } };
  scene.fleet.hosts['a'] = { build: 'exit 1' };
  await scene.push('The required host is broken');
  const run = await scene.release();
  assert.equal(run.code, ERROR_CODES.build_failed.exit);
  assert.match(run.finished.note, /required host a stops the release/);
  assert.equal(await scene.tip('release'), undefined);
});

test('ci run defers a host of a foreign system to the host itself', async () => {
  const scene = await openScene(world);
  scene.fleet.hosts['b'] = { system: 'aarch64-linux' };
  await scene.push('b is a Raspberry Pi');
  const run = await scene.release();
  assert.equal(run.code, 0, JSON.stringify(run.problems));
  assert.equal(run.phases['b'], 'deferred');
  const { hosts } = await scene.manifest();
  assert.deepEqual([hosts['b']?.state, hosts['b']?.system], ['deferred', 'aarch64-linux']);
  assert.equal((await scene.release()).finished.outcome, 'nothing-to-do');
});

test('ci run refuses a required host that only a foreign machine could build', async () => {
  const scene = await openScene(world);
  scene.fleet.hosts['b'] = { system: 'aarch64-linux' };
  scene.fleet.slipway = { hosts: { b: { required: true } } };
  await scene.push('b is required');
  const run = await scene.release();
  assert.equal(run.code, ERROR_CODES.build_failed.exit);
  assert.match(run.finished.note, /aarch64-linux/);
});

test('ci run copies closures to a store that Nix can write to, before it publishes', async () => {
  const scene = await openScene(world);
  const store = `${world.folder}/binary-cache`;
  const run = await scene.release('--cache', `file://${store}`);
  assert.equal(run.stages['cache'], 'ok', JSON.stringify(run.problems));
  const { hosts, caches } = await scene.manifest();
  assert.deepEqual(caches, [{ url: `file://${store}`, publicKeys: [] }]);
  const hash = /\/store\/([a-z0-9]{32})/.exec(hosts['a']?.toplevel ?? '')?.[1] ?? '';
  assert.match(await readFile(`${store}/${hash}.narinfo`, 'utf8'), /StorePath/);
});

test('ci run fills a cache that is new, and tells hosts of it', async () => {
  const scene = await openScene(world);
  await scene.release();
  const store = `file://${world.folder}/new-cache`;
  const run = await scene.release('--cache', store);
  assert.equal(run.finished.outcome, 'done', JSON.stringify(run.problems));
  assert.deepEqual(run.phases, { a: 'cached', b: 'cached', c: 'cached' });
  assert.deepEqual((await scene.manifest()).caches, [{ url: store, publicKeys: [] }]);
  assert.equal((await scene.release('--cache', store)).finished.outcome, 'nothing-to-do');
});

test('ci run publishes nothing when a cache cannot be reached', async () => {
  const scene = await openScene(world);
  const run = await scene.release('--cache', 'http://127.0.0.1:9/main');
  assert.equal(run.code, ERROR_CODES.unavailable.exit);
  assert.equal(run.stages['cache'], 'failed');
  assert.equal(await scene.tip('release'), undefined);
});

test('ci eval and ci build publish nothing; plan builds nothing', async () => {
  const scene = await openScene(world);
  const evaluated = await scene.ci('eval');
  assert.equal(evaluated.code, 0);
  assert.deepEqual(evaluated.phases, { a: 'evaluated', b: 'evaluated', c: 'evaluated' });
  const planned = await scene.slipway('plan', '--repository', scene.remote.url);
  assert.match(planned.finished.note, /would have 3 new \(a, b, c\)/);
  const built = await scene.ci('build');
  assert.deepEqual(built.phases, { a: 'built', b: 'built', c: 'built' });
  assert.equal(await scene.tip('release'), undefined);
});

test('a run that is killed leaves the next one nothing to repair by hand', async () => {
  const scene = await openScene(world);
  scene.fleet.hosts['a'] = { build: 'echo started; sleep 30' };
  await scene.push('A slow build');
  const running = scene.start(
    'ci',
    'run',
    '--repository',
    scene.remote.url,
    '--signing-key',
    scene.signingKey,
  );
  await running.waitForLine(/> started/);
  running.kill('SIGKILL');
  scene.fleet.hosts['a'] = {};
  await scene.push('A quick build');
  const run = await scene.release();
  assert.equal(run.code, 0, JSON.stringify(run.problems));
  // An orphaned nix-store would still hold the lock of the slow build's output.
  const builders = await world.run(['pgrep', '--full', 'nix-store --realise']);
  assert.equal(builders.stdout.toString(), '');
  const [folder = ''] = await readdir(scene.stateDirectory);
  const left = await readdir(`${scene.stateDirectory}/${folder}/mirror.git/refs/heads`).catch(() => []);
  assert.deepEqual(left, []);
});

test('a run that is interrupted ends with its cause and publishes nothing', async () => {
  const scene = await openScene(world);
  scene.fleet.hosts['a'] = { build: 'echo started; sleep 30' };
  await scene.push('A slow build');
  const running = scene.start(
    'ci',
    'run',
    '--repository',
    scene.remote.url,
    '--signing-key',
    scene.signingKey,
  );
  await running.waitForLine(/> started/);
  running.kill('SIGTERM');
  await running.ended;
  assert.match(running.lines.at(-1) ?? '', /"run-finished".*"failed"/);
  assert.match(running.lines.join('\n'), /"code":"cancelled"/);
  assert.equal(await scene.tip('release'), undefined);
});
