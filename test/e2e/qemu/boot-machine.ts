// One machine with real firmware and a real boot loader: QEMU (emulated, no KVM needed) with OVMF, Debian's systemd-boot
// on a FAT partition, and the lab's base system as root. It runs inside a world, so nothing of it outlives the suite.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { exec, type ExecResult, execText } from '../../../src/effects/exec.ts';
import { deadline, sleep } from '../../../src/util/deadline.ts';
import { openBaseImage } from '../lab/base-image.ts';
import type { WorldProcess } from '../lab/world-process.ts';
import type { World } from '../lab/world.ts';

const HERE = import.meta.dirname;
const OVMF = '/usr/share/OVMF';
const SYSTEMD_BOOT = '/usr/lib/systemd/boot/efi/systemd-bootx64.efi';
const BUILD_TIMEOUT_MS = 10 * 60_000;
const BOOT_TIMEOUT_MS = 600_000;
const CALL_TIMEOUT_MS = 120_000;
export const LAB = '/usr/lib/boot-lab';
/** A serial console costs an emulated machine much time: it tells of panics only. */
export const QUIET =
  'console=ttyS0 quiet loglevel=1 systemd.show_status=no mitigations=off nokaslr random.trust_cpu=on audit=0';

/** The folder that all guests share (`root/` and nothing else), built once for each recipe. */
export async function openGuest(): Promise<string> {
  const base = await openBaseImage();
  const hash = createHash('sha256').update(base);
  for (const name of ['build.sh', 'initrd-init', 'guest-init']) hash.update(await readFile(join(HERE, name)));
  const folder = join(dirname(base), `guest-${hash.digest('hex').slice(0, 20)}`);
  if (existsSync(folder)) return folder;
  process.stdout.write('building the guest (once)…\n');
  await rm(`${folder}.new`, { recursive: true, force: true });
  await execText([join(HERE, 'build.sh'), base, `${folder}.new`], { timeoutMs: BUILD_TIMEOUT_MS });
  await rename(`${folder}.new`, folder);
  return folder;
}

export class BootMachine {
  readonly #world: World;
  readonly #folder: string;
  readonly #guest: string;
  readonly port: number;
  hostKey = '';
  #qemu: WorldProcess | undefined;

  constructor(world: World, guest: string, port: number) {
    this.#world = world;
    this.#guest = guest;
    this.#folder = join(world.folder, `machine-${port}`);
    this.port = port;
  }

  /** Writes the disks: `first` is the only generation, and the boot default. */
  async install(first: string): Promise<void> {
    const root = join(this.#folder, 'root');
    await mkdir(this.#folder);
    await execText(['cp', '-al', join(this.#guest, 'root'), root], { timeoutMs: CALL_TIMEOUT_MS });
    this.hostKey = (await readFile(join(root, 'etc/ssh/ssh_host_ed25519_key.pub'), 'utf8')).trim();
    await this.#world.runText(['nix', 'copy', '--no-check-sigs', '--to', `local?root=${root}`, first]);
    const profiles = join(root, 'nix/var/nix/profiles');
    await execText(['ln', '-s', first, join(profiles, 'system-1-link')]);
    await execText(['ln', '-s', 'system-1-link', join(profiles, 'system')]);
    await execText(['truncate', '-s', '1500M', this.#disk('root')]);
    await execText(['mkfs.ext4', '-q', '-d', root, this.#disk('root')], {
      timeoutMs: CALL_TIMEOUT_MS,
    });
    await rm(root, { recursive: true });
    await this.#writeEsp(first);
    await copyFile(join(OVMF, 'OVMF_VARS_4M.fd'), this.#disk('vars'));
  }

  /** Loader, keys of the world, and the entry of the first generation, as an installer leaves them. */
  async #writeEsp(first: string): Promise<void> {
    const esp = this.#disk('esp');
    const lab = join(this.#guest, 'root', LAB);
    const options = `init=${first}/init ${QUIET} lab.version=v1`;
    const [kernel, initrd] = [espName('vmlinuz', 'kernel'), espName('initrd-a', 'initrd')];
    const entry = `title NixOS\nlinux /${kernel}\ninitrd /${initrd}\noptions ${options}\n`;
    await writeFile(join(this.#folder, 'entry'), entry);
    await writeFile(join(this.#folder, 'loader'), 'timeout 0\ndefault nixos-generation-1.conf\n');
    await execText(['truncate', '-s', '128M', esp]);
    await execText(['mkfs.vfat', '-F', '32', esp]);
    const folders = ['EFI', 'EFI/BOOT', 'EFI/nixos', 'loader', 'loader/entries', 'lab'];
    await execText(['mmd', '-i', esp, ...folders.map((folder) => `::/${folder}`)]);
    const files = [
      [SYSTEMD_BOOT, 'EFI/BOOT/BOOTX64.EFI'],
      [join(lab, 'vmlinuz'), kernel],
      ...['a', 'b', 'panics', 'hangs'].map((kind) => {
        const name = `initrd-${kind}`;
        return [join(lab, name), espName(name, 'initrd')] as const;
      }),
      [join(this.#folder, 'entry'), 'loader/entries/nixos-generation-1.conf'],
      [join(this.#folder, 'loader'), 'loader/loader.conf'],
      [join(this.#world.folder, 'home/.ssh/id_ed25519.pub'), 'lab/authorized_keys'],
    ] as const;
    for (const [from, to] of files) await execText(['mcopy', '-i', esp, from, `::/${to}`]);
  }

  async powerOn(): Promise<void> {
    await writeFile(this.#console, '');
    this.#start();
  }

  /**
   * A reset of the guest ends this process, and the next one goes on from the disks and the firmware's variables. Inside
   * one process QEMU keeps its translations of all code that the last boot left in memory, and each byte that the next
   * one writes there searches those of its page: from reset to root took 94 s to some 10 minutes of a core, not 6 s.
   */
  #start(): void {
    const network = `-netdev user,id=net0,hostfwd=tcp:127.0.0.1:${this.port}-:22 -device virtio-net-pci,netdev=net0`;
    const words = [
      'qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 1 -m 384 -no-reboot',
      `-drive if=pflash,format=raw,readonly=on,file=${OVMF}/OVMF_CODE_4M.fd`,
      `-drive if=pflash,format=raw,file=${this.#disk('vars')}`,
      `-drive file=${this.#disk('esp')},format=raw,if=virtio,cache=unsafe`,
      `-drive file=${this.#disk('root')},format=raw,if=virtio,cache=unsafe`,
      `-chardev file,id=console,append=on,path=${this.#console} -serial chardev:console`,
      `${network} -display none -monitor none`,
    ];
    const qemu = this.#world.start(words.join(' ').split(' '));
    this.#qemu = qemu;
    const resume = (end: ExecResult | undefined): void => {
      if (end?.code === 0 && this.#qemu === qemu) this.#start();
    };
    qemu.ended.then(resume, () => undefined);
  }

  /** Pulls the plug: what the guest has not written is gone. Then power on again. */
  async powerCut(): Promise<void> {
    const qemu = this.#qemu;
    this.#qemu = undefined;
    qemu?.kill('SIGKILL');
    await qemu?.ended;
    await this.powerOn();
  }

  /** A script as root over ssh; undefined when the machine cannot be reached. */
  async tryShell(script: string, timeoutMs = CALL_TIMEOUT_MS): Promise<string | undefined> {
    const options = [
      '-o',
      'BatchMode=yes',
      '-o',
      'StrictHostKeyChecking=no',
      '-o',
      'UserKnownHostsFile=/dev/null',
    ];
    const alive = ['-o', 'ConnectTimeout=20', '-o', 'ServerAliveInterval=5', '-o', 'ServerAliveCountMax=4'];
    const ssh = ['ssh', '-q', ...options, ...alive, '-p', String(this.port), 'root@127.0.0.1', script];
    const result = await this.#world.run(ssh, { timeoutMs }).catch(() => undefined);
    return result?.code === 0 ? result.stdout.toString('utf8').trimEnd() : undefined;
  }

  async shell(script: string): Promise<string> {
    const said = await this.tryShell(script);
    if (said === undefined) throw new Error(`The machine did not do: ${script}\n${await this.consoleEnd()}`);
    return said;
  }

  async untilUp(): Promise<void> {
    const signal = deadline(BOOT_TIMEOUT_MS);
    while ((await this.tryShell('systemctl is-active multi-user.target', 30_000)) !== 'active') {
      if (signal.aborted) throw new Error(`The machine did not come up.\n${await this.consoleEnd()}`);
      await sleep(1_000);
    }
  }

  /** Waits until this is on the console, from whichever boot since the power came on. */
  async untilConsole(text: string): Promise<void> {
    const signal = deadline(BOOT_TIMEOUT_MS);
    while (!(await readFile(this.#console, 'utf8')).includes(text)) {
      if (signal.aborted) throw new Error(`"${text}" did not come up.\n${await this.consoleEnd()}`);
      await sleep(500);
    }
  }

  async consoleEnd(): Promise<string> {
    const { stdout } = await exec(['tail', '-c', '3000', this.#console]);
    return stdout.toString('utf8');
  }

  get #console(): string {
    return join(this.#folder, 'console');
  }

  #disk(name: string): string {
    return join(this.#folder, `${name}.img`);
  }
}

/** Where the guest's installer puts a kernel or initrd; there already, it is not copied by an emulated processor. */
function espName(file: string, kind: string): string {
  const hash = createHash('sha256').update(`${LAB}/${file}\n`).digest('hex');
  return `EFI/nixos/${hash.slice(0, 32)}-${kind}.efi`;
}
