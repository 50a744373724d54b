// Files of boot loaders as NixOS writes them, and what they say.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { extlinuxDefault, findBootDefault, grubDefault, systemdBootDefault } from './boot-default.ts';

const A = `/nix/store/${'a'.repeat(32)}-nixos-system-web1-24.05`;
const B = `/nix/store/${'b'.repeat(32)}-nixos-system-web1-24.05`;
const entry = (toplevel: string): string =>
  `title NixOS\nversion Generation 1\nlinux /efi/nixos/x.efi\noptions init=${toplevel}/init loglevel=4\n`;
const ENTRIES = new Map([
  ['nixos-generation-1.conf', entry(A)],
  ['nixos-generation-2+3-0.conf', entry(B)],
  ['memtest.conf', 'title Memtest\nefi /memtest.efi\n'],
]);

const label = (name: string, top: string): string =>
  `LABEL ${name}\n  MENU LABEL NixOS\n  LINUX ../nixos/x-Image\n  APPEND init=${top}/init console=tty0\n`;
const menu = (top: string): string =>
  `menuentry "NixOS" --class nixos {\n  linux ($drive1)//kernels/x init=${top}/init\n}\n`;

const SYSTEMD_BOOT: readonly (readonly [string, string, string, string | undefined])[] = [
  ['the entry of loader.conf', 'timeout 5\ndefault nixos-generation-1.conf\n', '', A],
  ['an entry with boot counters', 'default nixos-generation-2.conf\n', '', B],
  ['preferred stands over default', 'default nixos-generation-1\npreferred nixos-generation-2\n', '', B],
  ['the firmware stands over both', 'default nixos-generation-1.conf\n', 'nixos-generation-2.conf', B],
  ['a pattern that fits several entries is left open', 'default nixos-*\n', '', undefined],
  ['no word is left open', 'timeout 5\n', '', undefined],
  ['an entry that is no NixOS', 'default memtest.conf\n', '', undefined],
];

for (const [name, conf, asked, wanted] of SYSTEMD_BOOT) {
  test(`systemdBootDefault(): ${name}`, () => {
    assert.equal(systemdBootDefault({ conf, asked, knowsPreferred: true }, ENTRIES), wanted);
  });
}

test('systemdBootDefault(): a loader that is too old for `preferred` goes by default', () => {
  const conf = 'preferred nixos-generation-2\ndefault nixos-generation-1\n';
  assert.equal(systemdBootDefault({ conf, asked: '', knowsPreferred: false }, ENTRIES), A);
});

test('extlinuxDefault() finds the label that is the default', () => {
  const conf = `DEFAULT nixos-default\nTIMEOUT 50\n\n${label('nixos-1-default', A)}\n${label('nixos-default', B)}`;
  assert.equal(extlinuxDefault(conf), B);
  assert.equal(extlinuxDefault(conf.replace('DEFAULT nixos-default', 'DEFAULT other')), undefined);
});

test('grubDefault() takes the first entry, and leaves a saved one open', () => {
  const cfg = `set default="0"\nset timeout=5\n${menu(B)}submenu "All" {\n${menu(A)}}\n`;
  assert.equal(grubDefault(cfg), B);
  assert.equal(grubDefault(cfg.replace('"0"', '"${saved_entry}"')), undefined);
  assert.equal(grubDefault('set default=0\n'), undefined);
});

test('findBootDefault() reads the folders of a host, and knows nothing where there is none', async () => {
  const root = await mkdtemp(join(tmpdir(), 'slipway-boot-default-'));
  try {
    assert.equal(await findBootDefault(root), undefined);
    await mkdir(join(root, 'boot/loader/entries'), { recursive: true });
    await writeFile(join(root, 'boot/loader/loader.conf'), 'default nixos-generation-1.conf\n');
    await writeFile(join(root, 'boot/loader/entries/nixos-generation-1.conf'), entry(A));
    assert.equal(await findBootDefault(root), A);
    const efi = join(root, 'sys/firmware/efi/efivars');
    await mkdir(efi, { recursive: true });
    const text = Buffer.from('\u0006\0\0\0nixos-generation-9.conf\0', 'utf8');
    const utf16 = Buffer.concat([text.subarray(0, 4), Buffer.from('nixos-generation-9.conf\0', 'utf16le')]);
    await writeFile(join(efi, 'LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f'), utf16);
    assert.equal(await findBootDefault(root), undefined);
  } finally {
    await rm(root, { recursive: true });
  }
});
