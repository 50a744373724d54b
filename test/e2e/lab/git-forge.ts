// The git forge of a world, from the tests' side: bare repositories over smart HTTP, with webhooks.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { World } from './world.ts';

const PORT = 3000;

/** A webhook as a forge has it: `kind` decides the headers and how the delivery is signed. */
export interface Webhook {
  readonly url: string;
  readonly secret: string;
  readonly kind: 'github' | 'gitlab' | 'forgejo';
}

export interface RemoteRepository {
  /** URL that works on the controller side and on every host. */
  readonly url: string;
  /** The bare repository's folder; the same path inside the world and outside. */
  readonly path: string;
  /** From now on each push that moves a branch is told to `webhook.url`. */
  setWebhook(webhook: Webhook): Promise<void>;
}

export class GitForge {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  /** Called once, by openWorld: starts the forge and waits until it answers. */
  async start(): Promise<void> {
    const main = join(import.meta.dirname, 'git-forge-main.ts');
    const forge = this.#world.start([this.#world.node, main, join(this.#world.folder, 'git'), String(PORT)]);
    await forge.waitForLine(/^listening$/);
  }

  /** Makes an empty bare repository that takes pushes. */
  async create(name: string): Promise<RemoteRepository> {
    const path = join(this.#world.folder, 'git', `${name}.git`);
    await mkdir(path, { recursive: true });
    await this.#world.runText(['git', 'init', '--quiet', '--bare', '--initial-branch=main', path]);
    await this.#world.runText(['git', '-C', path, 'config', 'http.receivepack', 'true']);
    return {
      url: `http://forge.lab:${PORT}/${name}.git`,
      path,
      setWebhook: async (webhook) => await writeFile(join(path, 'webhook.json'), JSON.stringify(webhook)),
    };
  }
}
