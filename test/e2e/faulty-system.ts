// Toplevels that go wrong on demand: real store paths with a switch-to-configuration that keeps NixOS' order, lock and
// exit codes, and a unit (lab-app, HTTP on port 8080). What they do wrong is a word in their file `faults`.
import { cp, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { World } from './lab/world.ts';

export type Fault =
  /** The unit fails right after its start. */
  | 'unit-fails'
  /** Exit codes 2, 1 and 100 of switch-to-configuration. */
  | 'activate-fails'
  | 'check-fails'
  | 'init-changed'
  /** The activation pulls the network down, stops sshd, never ends, takes 3 s, restarts sshd, re-executes systemd. */
  | 'cuts-network'
  | 'stops-sshd'
  | 'hangs'
  | 'slow-activation'
  | 'restarts-sshd'
  | 'reexecs'
  /** The activation gives the host another address (the old system's takes it back), or moves sshd to port 2222. */
  | 'moves-address'
  | 'moves-port'
  /** Installing the boot loader fails, or takes 3 s. */
  | 'bootloader-fails'
  | 'slow-boot'
  /**
   * Boot trials: the kernel panics, the boot never reaches its target, a check before boot-complete.target fails, the boot
   * loader keeps one generation only.
   */
  | 'kernel-panics'
  | 'boot-hangs'
  | 'boot-check-fails'
  | 'one-entry';

export interface FaultySystem {
  /** The host it is made for. */
  readonly host: string;
  readonly version: string;
  readonly faults?: readonly Fault[];
  /** Files beside the usual ones: path -> text. */
  readonly files?: Readonly<Record<string, string>>;
  /** Links: path -> where it leads on the host. */
  readonly links?: Readonly<Record<string, string>>;
}

const SCRIPTS = join(import.meta.dirname, 'faulty-system');

/** Where a system that `moves-address` takes its host: 10.77.0.7 becomes 10.77.0.17, 10.77.0.11 becomes 10.77.0.111. */
export function movedAddress(address: string): string {
  return address.replace(/\.(\d+)$/, '.1$1');
}

/** Puts the system into the controller's store and answers its path. */
export async function buildFaultySystem(world: World, system: FaultySystem): Promise<string> {
  const folder = join(world.folder, `nixos-system-${system.host}-${system.version}`);
  await rm(folder, { recursive: true, force: true });
  await mkdir(join(folder, 'bin'), { recursive: true });
  await cp(join(SCRIPTS, 'activate'), join(folder, 'activate'));
  for (const name of ['switch-to-configuration', 'install-boot-loader'])
    await cp(join(SCRIPTS, name), join(folder, 'bin', name));
  const files = { ...usualFiles(system), ...system.files };
  for (const [path, text] of Object.entries(files)) {
    await mkdir(join(folder, path, '..'), { recursive: true });
    await writeFile(join(folder, path), text);
  }
  for (const [path, to] of Object.entries(system.links ?? {})) await symlink(to, join(folder, path));
  return (await world.runText(['nix', 'store', 'add-path', folder])).trim();
}

function usualFiles({ host, version, faults = [] }: FaultySystem): Record<string, string> {
  const fails = faults.includes('unit-fails');
  const program = fails ? '/bin/false' : '/bin/busybox httpd -f -p 8080 -h /run/current-system/www';
  return {
    'etc/hostname': `${host}\n`,
    'nixos-version': `26.05.${version}`,
    system: 'x86_64-linux',
    faults: faults.map((fault) => `${fault}\n`).join(''),
    'www/index.html': `${host} ${version}\n`,
    'units/lab-app.service': `[Unit]\nDescription=app ${version}\n[Service]\nExecStart=${program}\n`,
  };
}

/** Makes the system the host's first generation, running, booted and boot default, as an installer would. */
export async function installFaultySystem(world: World, host: string, path: string): Promise<void> {
  const machine = world.host(host);
  await world.runText(['nix', 'copy', '--to', `ssh://root@${machine.address}`, path]);
  await machine.shell(`nix-env -p /nix/var/nix/profiles/system --set ${path}
    ${path}/bin/switch-to-configuration switch; ln -sfn ${path} /run/booted-system`);
}
