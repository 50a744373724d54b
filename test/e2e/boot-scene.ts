// Hosts with a boot loader: firmware variables, entries and a one-shot as systemd-boot has them, played by the lab's
// stage 2 (the real loader runs in `make test-boot`), and systems that differ in what only a boot can change.
import assert from 'node:assert/strict';
import { type DeployScene, openDeployScene } from './deploy-scene.ts';
import type { Fault } from './faulty-system.ts';
import type { WorldHost } from './lab/world-host.ts';

/** What a boot trial asks of bootctl; Debian has it in a package of its own, and it refuses in containers. */
const BOOTCTL = `#!/bin/sh
PATH=/usr/bin:/bin # busybox, first in the example's PATH, knows no \\\\xHH in sed
var=/sys/firmware/efi/efivars/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
[ "$1" = set-oneshot ] || exit 1
[ -n "$2" ] || exec rm -f $var
{ printf '\\007\\000\\000\\000'; printf '%s' "$2" | sed 's/./&\\x00/g'; printf '\\000\\000'; } >$var
`;

/** From its next boot on the host is started by a boot loader, whose default is `system`; it boots once. */
export async function giveBootLoader(host: WorldHost, system: string): Promise<void> {
  await host.shell(
    `mkdir -p /boot/efivars /boot/loader/entries
    printf '%s' "$BOOTCTL" >/usr/local/bin/bootctl; chmod +x /usr/local/bin/bootctl
    ${system}/bin/switch-to-configuration boot`,
    { env: { BOOTCTL } },
  );
  await host.reboot();
}

export interface BootHost {
  readonly host: WorldHost;
  readonly old: string;
}

export class BootScene implements AsyncDisposable {
  readonly deploys: DeployScene;

  constructor(deploys: DeployScene) {
    this.deploys = deploys;
  }

  /** A host of its own that was started by its boot loader. */
  async takeHost(): Promise<BootHost> {
    const { host, old } = this.deploys.takeHost();
    await giveBootLoader(host, old);
    return { host, old };
  }

  /** A system with a kernel of its own. */
  async build(
    host: WorldHost,
    version: string,
    faults: readonly Fault[] = [],
    names = 'generations',
  ): Promise<string> {
    const files = { kernel: `kernel ${version}\n`, 'boot-names': names };
    return await this.deploys.build(host, version, { faults, files });
  }

  /** Running, booted, profile and default are `path`; of the boot trial nothing is left, and no entry is on probation. */
  async assertRuns({ host }: BootHost, path: string): Promise<void> {
    await this.deploys.assertRuns(host, path);
    assert.equal((await host.systems()).booted, path);
    const left = await host.shell(`ls /boot/loader/entries | grep slipway || true
      ls /boot/efivars | grep OneShot || true
      ls /etc/systemd/system.control | grep -v -x -e slipway-recover.service -e multi-user.target.wants || true
      for link in /nix/var/nix/profiles/system-*-link; do
        [ "$(readlink $link)" = "$(readlink -f /nix/var/nix/profiles/system)" ] || [ "\${link%-link}" = /nix/var/nix/profiles/system-1 ] || echo $link
      done`);
    assert.equal(left, '', 'nothing of the boot trial is left');
    const name = await host.shell('tail -n 1 /var/log/boots');
    const init = await host.shell(`grep -l "init=${path}/init" /boot/loader/entries/*.conf`);
    assert.doesNotMatch(init, /\+/, `its entry is proven: ${name}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.deploys[Symbol.asyncDispose]();
  }
}

export async function openBootScene(hosts: number): Promise<BootScene> {
  return new BootScene(await openDeployScene(hosts));
}
