// The example fleet, ready to be deployed: examples/homelab in a checkout of its own with this world's host keys,
// editors' keys and freshly encrypted secrets, pushed to the world's forge; and its hosts installed once, the way
// nixos-install leaves them.
import { randomBytes } from 'node:crypto';
import { copyFile, cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { RemoteRepository } from './git-forge.ts';
import type { World } from './world.ts';
import type { WorldHost } from './world-host.ts';

export interface FleetOptions {
  /** Text of pi1's agent.toml; without it pi1 runs no agent. */
  readonly agentConfig?: string;
  /** Entries of the flake's `slipway.caches`. Default: `slipway:main`. */
  readonly caches?: readonly string[];
  /** Who re-keys (`age1…`), where a server has made that key already. Default: a new key, see `Fleet.rekeyKey`. */
  readonly rekeyRecipient?: string;
  /** Whether the first commit is pushed at once. Default: yes. */
  readonly push?: boolean;
}

/** Secrets of the example: file in secrets/ -> hosts that use it. */
const SECRETS: Readonly<Record<string, readonly string[]>> = {
  'web1-hello': ['web1'],
  'pi1-hello': ['pi1'],
  'forge1-hello': ['forge1'],
  mail: ['web1', 'pi1'],
};
const EXAMPLE = 'examples/homelab';
const BUSYBOX = '/bin/busybox';

/** Copies, keys, encrypts, commits and pushes. Does not touch the hosts: see `Fleet.install`. */
export async function openFleet(world: World, options: FleetOptions = {}): Promise<Fleet> {
  const fleet = new Fleet(world, await world.git.create('fleet'));
  await fleet.fill(options);
  return fleet;
}

export class Fleet {
  /** The user's checkout, the same path inside the world and outside. */
  readonly checkout: string;
  readonly remote: RemoteRepository;
  /** Private key files: the editor's ssh key and the re-key identity of CI (age X25519). */
  readonly editorKey: string;
  readonly rekeyKey: string;
  /** Recipients of every secret on the source branch. */
  editors: readonly string[] = [];
  /** In every secret's plaintext: must never turn up in a log, a database or an artifact. */
  readonly canary = `canary-${randomBytes(12).toString('hex')}`;
  readonly #world: World;
  readonly #bootstrap: string;
  #variants = 0;

  constructor(world: World, remote: RemoteRepository) {
    this.#world = world;
    this.remote = remote;
    this.checkout = join(world.folder, 'fleet');
    this.#bootstrap = join(world.folder, 'bootstrap');
    this.editorKey = join(world.folder, 'keys/editor');
    this.rekeyKey = join(world.folder, 'keys/rekey.key');
  }

  /** Called once, by openFleet. */
  async fill(options: FleetOptions): Promise<void> {
    await copyExample(this.#world, this.checkout);
    await this.#makeKeys(options.rekeyRecipient);
    await this.write('fleet.json', this.#facts(options));
    if (options.agentConfig === undefined) await rm(join(this.checkout, 'hosts/pi1/agent.toml'));
    else await this.write('hosts/pi1/agent.toml', options.agentConfig);
    for (const name of Object.keys(SECRETS)) await this.putSecret(name, this.plaintext(name), this.editors);
    await this.git('init', '--quiet', '--initial-branch=main');
    await this.git('remote', 'add', 'origin', this.remote.url);
    await this.commit('A fleet of three hosts');
    if (options.push !== false) await this.push();
  }

  /** What a secret holds; it carries the canary. */
  plaintext(name: string): string {
    return `${name} ${this.canary}\n`;
  }

  async write(path: string, text: string): Promise<void> {
    await mkdir(dirname(join(this.checkout, path)), { recursive: true });
    await writeFile(join(this.checkout, path), text);
  }

  async remove(path: string): Promise<void> {
    await rm(join(this.checkout, path));
  }

  /** Sets what the hello service of a host answers. */
  async setVersion(host: string, version: string): Promise<void> {
    await this.write(`hosts/${host}/version`, `${version}\n`);
  }

  /** Asks for trouble on a host: words of lib/build-toplevel.sh; none mends it. */
  async setBroken(host: string, ...words: readonly string[]): Promise<void> {
    await this.write(`hosts/${host}/break`, words.map((word) => `${word}\n`).join(''));
  }

  /** Encrypts a secret with the real `age` into the checkout (or another folder) for these recipients. */
  async putSecret(
    name: string,
    text: string,
    recipients: readonly string[],
    into = this.checkout,
  ): Promise<void> {
    const flags = recipients.flatMap((recipient) => ['--recipient', recipient]);
    const output = join(into, 'secrets', `${name}.age`);
    await this.#world.runText(['age', '--encrypt', ...flags, '--output', output], { input: text });
  }

  /** Commits everything in the checkout; answers the commit's id. */
  async commit(message: string): Promise<string> {
    await this.git('add', '--all');
    await this.git('commit', '--quiet', '--message', message);
    return await this.git('rev-parse', 'HEAD');
  }

  async push(): Promise<void> {
    await this.git('push', '--quiet', 'origin', 'HEAD:main');
  }

  async git(...args: readonly string[]): Promise<string> {
    return (await this.#world.runText(['git', ...args], { cwd: this.checkout })).trim();
  }

  /** Installs generation 1 on every host of the world: its own secrets, hello 0.0.0, profile, boot default. */
  async install(): Promise<void> {
    await this.#writeBootstrap(this.#bootstrap);
    const names = this.#world.hosts.map((host) => host.name);
    const toplevels = await buildToplevels(this.#world, this.#bootstrap, names);
    await Promise.all(
      this.#world.hosts.map(async (host) => {
        // Nix answers in an order of its own.
        const toplevel = toplevels.find((path) => path.includes(`-nixos-system-${host.name}-`));
        await installHost(this.#world, host, toplevel ?? '');
      }),
    );
  }

  /**
   * Builds a toplevel beside the release flow and copies it to its host: the host's first generation with another
   * hello version, or broken in the ways of lib/build-toplevel.sh. Answers its store path.
   */
  async buildVariant(
    host: string,
    change: { readonly version?: string; readonly broken?: readonly string[] },
  ): Promise<string> {
    const folder = join(this.#world.folder, 'variants', `${host}-${this.#variants++}`);
    await cp(this.#bootstrap, folder, { recursive: true });
    const settings = join(folder, 'hosts', host);
    if (change.version !== undefined) await writeFile(join(settings, 'version'), `${change.version}\n`);
    if (change.broken)
      await writeFile(join(settings, 'break'), change.broken.map((word) => `${word}\n`).join(''));
    const [toplevel = ''] = await buildToplevels(this.#world, folder, [host]);
    await this.#world.runText(['nix', 'copy', '--to', `ssh://root@${host}`, toplevel]);
    return toplevel;
  }

  /** What the hello service of a host answers now, asked over the network; rejects when it does not answer. */
  async hello(host: string): Promise<{ version: string; host: string; secret: string }> {
    const url = `http://${this.#world.host(host).address}:8080/`;
    const text = await this.#world.runText(['curl', '--silent', '--fail', '--max-time', '2', url]);
    return JSON.parse(text) as { version: string; host: string; secret: string };
  }

  async #makeKeys(recipient: string | undefined): Promise<void> {
    await mkdir(dirname(this.editorKey), { recursive: true, mode: 0o700 });
    const sshKeygen = ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'editor', '-f', this.editorKey];
    await this.#world.runText(sshKeygen);
    const editor = await readFile(`${this.editorKey}.pub`, 'utf8');
    this.editors = [editor.trim(), recipient ?? (await this.#makeRekeyKey())];
  }

  async #makeRekeyKey(): Promise<string> {
    await this.#world.runText(['age-keygen', '--output', this.rekeyKey]);
    return (await this.#world.runText(['age-keygen', '-y', this.rekeyKey])).trim();
  }

  #facts(options: FleetOptions): string {
    const hosts = this.#world.hosts.map((host) => [
      host.name,
      { address: host.name, publicKey: host.publicKey },
    ]);
    const facts = {
      hosts: Object.fromEntries(hosts) as unknown,
      editors: this.editors,
      caches: options.caches ?? ['slipway:main'],
    };
    return JSON.stringify(facts, undefined, 2) + '\n';
  }

  /** The fleet as it was before Slipway came: secrets encrypted straight to the hosts, an older hello. */
  async #writeBootstrap(folder: string): Promise<void> {
    await rm(folder, { recursive: true, force: true });
    await cp(this.checkout, folder, { recursive: true, filter: (path) => !path.endsWith('/.git') });
    for (const host of this.#world.hosts)
      await writeFile(join(folder, 'hosts', host.name, 'version'), '0.0.0\n');
    for (const [name, users] of Object.entries(SECRETS)) {
      const keys = this.#world.hosts
        .filter((host) => users.includes(host.name))
        .map((host) => host.publicKey);
      if (keys.length > 0) await this.putSecret(name, this.plaintext(name), keys, folder);
    }
  }
}

async function copyExample(world: World, checkout: string): Promise<void> {
  await cp(join(world.repository, EXAMPLE), checkout, { recursive: true });
  await mkdir(join(checkout, 'tools/bin'), { recursive: true });
  await copyFile(BUSYBOX, join(checkout, 'tools/bin/busybox'));
}

async function buildToplevels(
  world: World,
  flake: string,
  hosts: readonly string[],
): Promise<readonly string[]> {
  const targets = hosts.map(
    (host) => `path:${flake}#nixosConfigurations.${host}.config.system.build.toplevel`,
  );
  const built = await world.runText(['nix', 'build', '--no-link', '--json', ...targets]);
  return (JSON.parse(built) as { outputs: { out: string } }[]).map((one) => one.outputs.out);
}

/** What nixos-install does, over ssh: copy the closure, set the profile, switch; as if booted from it. */
async function installHost(world: World, host: WorldHost, toplevel: string): Promise<void> {
  await world.runText(['nix', 'copy', '--to', `ssh://root@${host.name}`, toplevel]);
  await host.execText(['nix-env', '--profile', '/nix/var/nix/profiles/system', '--set', toplevel]);
  await host.execText([`${toplevel}/bin/switch-to-configuration`, 'switch']);
  await host.execText(['ln', '-sfn', toplevel, '/run/booted-system']);
}
