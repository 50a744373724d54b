// Looks for a word everywhere that it must not be: logs, databases, caches, git objects, stores, pages.
import { join } from 'node:path';
import type { WorldHost } from '../../test/e2e/lab/world-host.ts';
import type { DemoScene } from './demo-scene.ts';

const MAX_OUTPUT = 512 * 1024 * 1024;

/** Places that hold the word; empty when it leaked nowhere. Throws when the search itself would not find it. */
export async function findLeaks(scene: DemoScene, word: string): Promise<readonly string[]> {
  const { world, fleet } = scene;
  await assertSearchWorks(world.host('web1'), word);
  const page = JSON.stringify(await scene.status());
  const places = [
    ...matches('the status page', page, word),
    ...matches("the server's output", scene.serverLines.join('\n'), word),
    ...(await inGit(scene, fleet.remote.path, word)),
    ...(await inPacks(scene, word)),
    ...(await inFiles(scene, [scene.data, '/nix', `${world.folder}/home`, `${world.folder}/tmp`], word)),
  ];
  for (const host of world.hosts) places.push(...(await onHost(host, word)));
  return places;
}

/** The word is in the decrypted secret, in RAM on the host that uses it: a search that misses it proves nothing. */
async function assertSearchWorks(host: WorldHost, word: string): Promise<void> {
  const found = await grepOn(host, ['/run/agenix.d'], word);
  if (found.length === 0) throw new Error('The search does not find the secret where it is.');
}

async function onHost(host: WorldHost, word: string): Promise<string[]> {
  const journal = await host.execText(['journalctl', '--no-pager', '--output=export'], {
    maxOutput: MAX_OUTPUT,
  });
  return [
    ...matches(`${host.name}: the journal`, journal, word),
    ...matches(`${host.name}: the console`, await host.consoleLog(), word),
    ...(await grepOn(host, ['/etc', '/var', '/nix', '/root', '/tmp', '/run/slipway', '/home'], word)),
  ];
}

async function grepOn(host: WorldHost, folders: readonly string[], word: string): Promise<string[]> {
  const result = await host.exec(grep(folders), { input: `${word}\n`, timeoutMs: 120_000 });
  return listed(result.stdout).map((path) => `${host.name}: ${path}`);
}

async function inFiles(scene: DemoScene, folders: readonly string[], word: string): Promise<string[]> {
  const result = await scene.world.run(grep(folders), { input: `${word}\n`, timeoutMs: 120_000 });
  return listed(result.stdout);
}

/** The word comes by stdin, so that no process list holds it. */
function grep(folders: readonly string[]): string[] {
  return ['grep', '-rlaF', '--devices=skip', '-s', '-f', '-', '--', ...folders];
}

/** Every object of the repository, decompressed. */
async function inGit(scene: DemoScene, repository: string, word: string): Promise<string[]> {
  const argv = ['git', '-C', repository, 'cat-file', '--batch', '--batch-all-objects', '--buffer'];
  return await inOutput(scene, { argv, holds: 'nixosConfigurations = {' }, word);
}

/** The cache's packs, decompressed: each is a zstd stream (docs/FORMATS.md). */
async function inPacks(scene: DemoScene, word: string): Promise<string[]> {
  const argv = ['find', join(scene.data, 'packs'), '-type', 'f', '-exec', 'zstd', '-dcqf', '{}', '+'];
  return await inOutput(scene, { argv, holds: 'Description=The service of this example' }, word);
}

/** `holds` is what the output must contain for the search to prove anything. */
async function inOutput(
  scene: DemoScene,
  { argv, holds }: { readonly argv: readonly string[]; readonly holds: string },
  word: string,
): Promise<string[]> {
  const { stdout } = await scene.world.run(argv, { maxOutput: MAX_OUTPUT });
  if (!stdout.includes(holds)) throw new Error(`${argv.join(' ')} shows nothing to search.`);
  return stdout.includes(word) ? [argv.join(' ')] : [];
}

function matches(place: string, text: string, word: string): string[] {
  return text.includes(word) ? [place] : [];
}

function listed(stdout: Buffer): string[] {
  return stdout.toString().split('\n').filter(Boolean);
}
