// A pipeline scene whose hosts use secrets: `db` for host a, `hello` for host b, released once; keys of everybody.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { World } from './lab/world.ts';
import { openScene, type PipelineScene, type SceneRun } from './pipeline-scene.ts';

/** Opens a scene and makes its first release, with these options. */
export async function openSecretScene(world: World, ...args: readonly string[]): Promise<SecretScene> {
  const scene = new SecretScene(world, await openScene(world));
  await scene.fill();
  const first = await scene.release(...args);
  assert.equal(first.finished.outcome, 'done', JSON.stringify(first.problems));
  return scene;
}

export class SecretScene {
  readonly scene: PipelineScene;
  readonly folder: string;
  readonly keys = new Map<string, string>();
  /** More of the flake's `slipway` output. */
  settings: Record<string, unknown> = {};
  readonly #world: World;

  constructor(world: World, scene: PipelineScene) {
    this.#world = world;
    this.scene = scene;
    this.folder = join(scene.checkout, '..');
  }

  async fill(): Promise<void> {
    for (const name of ['a', 'b', 'c', 'editor', 'other-editor', 'rekey']) await this.keygen(name);
    await this.seal('secrets/db.age', 'the database password');
    await this.seal('secrets/hello.age', 'hello');
    this.use({ a: ['db'], b: ['hello'] });
    await this.scene.push('Secrets');
  }

  async keygen(name: string): Promise<string> {
    const file = this.key(name);
    await this.#world.runText(['rm', '-f', file]);
    await this.#world.runText(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', file]);
    this.keys.set(name, (await readFile(`${file}.pub`, 'utf8')).trim());
    return file;
  }

  key(name: string): string {
    return join(this.folder, `${name}.key`);
  }

  publicKey(name: string): string {
    return this.keys.get(name) ?? '';
  }

  async seal(path: string, text: string): Promise<void> {
    const readers = ['editor', 'rekey'].flatMap((name) => ['-r', this.publicKey(name)]);
    await this.scene.write(path, '');
    const output = join(this.scene.checkout, path);
    await this.#world.runText(['age', '-e', ...readers, '-o', output], { input: text });
  }

  /** Says which host uses which files of secrets/, and who the hosts and editors are. */
  use(uses: Readonly<Record<string, readonly string[]>>, editors: readonly string[] = ['editor']): void {
    const { fleet } = this.scene;
    for (const host of ['a', 'b', 'c']) {
      const files = (uses[host] ?? []).map((name) => [name, `secrets/${name}.age`] as const);
      fleet.hosts[host] = { secrets: Object.fromEntries(files) };
    }
    fleet.slipway = {
      ...this.settings,
      hosts: Object.fromEntries(
        ['a', 'b', 'c'].map((host) => [host, { publicKey: this.publicKey(host), tags: [`only-${host}`] }]),
      ),
      secrets: {
        editors: editors.map((name) => this.publicKey(name)),
        rekeyer: this.publicKey('rekey'),
      },
    };
  }

  async release(...args: readonly string[]): Promise<SceneRun> {
    return await this.scene.release(...this.releaseArguments(), ...args);
  }

  releaseArguments(): readonly string[] {
    return ['--rekey-identity', this.key('rekey')];
  }

  /** Signs the grants of the checkout as `slipway secrets approve` does. */
  async approve(name: string): Promise<{ code: number; stderr: string }> {
    await this.scene.git('fetch', '--quiet', 'origin');
    const args = ['secrets', 'approve', '--repository', '.', '--key', this.key(name)];
    return await this.#world.slipway(args, { cwd: this.scene.checkout });
  }

  /** Opens a secret of a branch of the forge with somebody's key; rejects when it does not open. */
  async open(branch: string, path: string, key: string, remote = this.scene.remote.path): Promise<string> {
    const file = await this.#world.run(['git', '-C', remote, 'show', `${branch}:${path}`]);
    const copy = join(this.folder, 'opened.age');
    await writeFile(copy, file.stdout);
    return await this.#world.runText(['age', '-d', '-i', this.key(key), copy]);
  }
}
