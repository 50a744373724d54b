// The hosts that bench/deploy.ts deploys to: booted test hosts, a new system for each deploy of each (built before the
// clock runs), and one flake that both slipway and deploy-rs read.
import { cp, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type DeployScene, openDeployScene } from '../test/e2e/deploy-scene.ts';
import type { World } from '../test/e2e/lab/world.ts';

export interface BenchFleet extends AsyncDisposable {
  readonly world: World;
  readonly names: readonly string[];
  readonly first: string;
  /** The flake's folder. */
  readonly folder: string;
  /** Puts a new version into the flake for these hosts and builds it; answers each one's toplevel. */
  next(names: readonly string[]): Promise<ReadonlyMap<string, string>>;
  /** Milliseconds of CPU that all processes of these hosts have used. */
  cpuOf(names: readonly string[]): Promise<number>;
}

const RS = process.env['SLIPWAY_DEPLOY_RS'];

export async function openBenchFleet(hosts: number): Promise<BenchFleet> {
  const scene = await openDeployScene(hosts);
  const folder = join(scene.world.folder, 'fleet');
  await mkdir(folder);
  if (RS !== undefined) {
    await mkdir(join(folder, 'rs'));
    for (const name of ['deploy', 'activate']) await cp(join(RS, name), join(folder, 'rs', name));
  }
  return new Fleet(scene, folder);
}

class Fleet implements BenchFleet {
  readonly world: World;
  readonly names: readonly string[];
  readonly folder: string;
  readonly #scene: DeployScene;
  #version = 1;

  constructor(scene: DeployScene, folder: string) {
    this.#scene = scene;
    this.world = scene.world;
    this.folder = folder;
    this.names = scene.world.hosts.map(({ name }) => name);
  }

  get first(): string {
    return this.names[0] ?? '';
  }

  async next(names: readonly string[]): Promise<ReadonlyMap<string, string>> {
    this.#version++;
    for (const name of names) {
      await this.#scene.build(this.world.host(name), `v${this.#version}`);
      const source = `nixos-system-${name}-v${this.#version}`;
      await rm(join(this.folder, name), { recursive: true, force: true });
      await cp(join(this.world.folder, source), join(this.folder, name), { recursive: true });
    }
    await writeFile(join(this.folder, 'flake.nix'), this.#flake(names));
    const built = names.map(
      (name) => `path:${this.folder}#nixosConfigurations.${name}.config.system.build.toplevel`,
    );
    const text = await this.world.runText(['nix', 'build', '--no-link', '--json', ...built]);
    const outs = (JSON.parse(text) as { outputs: { out: string } }[]).map(({ outputs }) => outputs.out);
    if (RS !== undefined)
      await this.world.runText([
        'nix',
        'build',
        '--no-link',
        ...names.map((name) => `path:${this.folder}#deploy.nodes.${name}.profiles.system.path`),
      ]);
    return new Map(
      names.map((name) => [
        name,
        outs.find((out) => out.includes(`-nixos-system-${name}-v${this.#version}`)) ?? '',
      ]),
    );
  }

  async cpuOf(names: readonly string[]): Promise<number> {
    const ticks = await Promise.all(
      names.map(async (name) => {
        const text = await this.world.host(name).shell('cat /proc/[0-9]*/stat 2>/dev/null || true');
        // Fields 14 to 17: what a process and its children that were waited for have used, in hundredths of a second.
        return text.split('\n').reduce((sum, line) => {
          const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
          return sum + fields.slice(11, 15).reduce((own, field) => own + (Number(field) || 0), 0);
        }, 0);
      }),
    );
    return ticks.reduce((sum, own) => sum + own, 0) * 10;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scene[Symbol.asyncDispose]();
  }

  #flake(names: readonly string[]): string {
    const each = (line: (name: string) => string): string => names.map(line).join('\n      ');
    return `{ outputs = { self }: let
      top = name: base: derivation { name = "nixos-system-\${name}-v${this.#version}"; system = "x86_64-linux";
        builder = "/bin/sh"; PATH = "/usr/bin:/bin"; args = [ "-c" "cp -r \${base} $out" ]; };
      rs = builtins.path { path = ./rs; name = "deploy-rs"; };
      activatable = name: base: derivation { name = "activatable-\${name}"; system = "x86_64-linux"; builder = "/bin/sh";
        inherit base rs; PATH = "/usr/bin:/bin"; args = [ "-c" ''
          mkdir $out; ln -s $base/* $out/
          printf '#!/bin/sh\\ncd /tmp; $PROFILE/bin/switch-to-configuration switch\\n' >$out/deploy-rs-activate
          printf '#!/bin/sh\\nexec %s/activate "$@"\\n' $rs >$out/activate-rs
          chmod +x $out/deploy-rs-activate $out/activate-rs
        '' ]; };
    in {
      ${each((name) => `nixosConfigurations.${name}.config.system.build.toplevel = top "${name}" (builtins.path { path = ./${name}; name = "source"; });`)}
      ${each((name) => this.#host(name))}
      ${each((name) => `deploy.nodes.${name} = { hostname = "${this.world.host(name).address}"; sshUser = "root"; fastConnection = true; profiles.system = { user = "root"; path = activatable "${name}" self.nixosConfigurations.${name}.config.system.build.toplevel; }; };`)}
    }; }`;
  }

  #host(name: string): string {
    const { address, publicKey } = this.world.host(name);
    return `slipway.hosts.${name} = { mode = "push"; targetHost = "${address}"; publicKey = "${publicKey}"; health.stable = 0; };`;
  }
}
