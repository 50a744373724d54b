// What this host starts when nobody asks for anything else, read from the files of its boot loader: systemd-boot, GRUB
// and extlinux, as NixOS writes them. What they leave open (a saved entry, a word that fits several) is undefined.
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';

const EFI_VARS = 'sys/firmware/efi/efivars';
const LOADER_GUID = '4a67b082-0a4c-41cf-b6c7-440b29bb8c4f';
/** Bit of LoaderFeatures: `preferred` is honoured (since systemd 260); an older loader goes by `default`. */
const KNOWS_PREFERRED = 1 << 19;
const BOOT_FOLDERS = ['boot', 'efi', 'boot/efi'];
/** A grub.cfg of hundreds of generations is below a megabyte. */
const MAX_FILE = 4 * 1024 * 1024;

/** The toplevel that boots by default. */
export async function findBootDefault(root = '/'): Promise<string | undefined> {
  for (const folder of BOOT_FOLDERS) {
    const loader = path.join(root, folder, 'loader');
    const conf = await findText(path.join(loader, 'loader.conf'));
    if (conf === undefined) continue;
    const words = { conf, ...(await readFirmware(root)) };
    return systemdBootDefault(words, await readEntries(path.join(loader, 'entries')));
  }
  const extlinux = await findText(path.join(root, 'boot/extlinux/extlinux.conf'));
  if (extlinux !== undefined) return extlinuxDefault(extlinux);
  const grub = await findText(path.join(root, 'boot/grub/grub.cfg'));
  return grub === undefined ? undefined : grubDefault(grub);
}

/** What systemd-boot goes by. */
export interface LoaderWords {
  /** Text of loader.conf. */
  readonly conf: string;
  /** The firmware's word, which stands over loader.conf. */
  readonly asked: string;
  readonly knowsPreferred: boolean;
}

/** `entries`: text of each entry by its file name. */
export function systemdBootDefault(
  { conf, asked, knowsPreferred }: LoaderWords,
  entries: ReadonlyMap<string, string>,
): string | undefined {
  const preferred = knowsPreferred ? settingOf(conf, 'preferred') : undefined;
  const wanted = asked || preferred || settingOf(conf, 'default');
  if (wanted === undefined || wanted === '') return undefined;
  const pattern = globToRegExp(wanted.replace(/\.conf$/, ''));
  const fitting = [...entries].filter(([name]) => pattern.test(entryName(name)));
  return onlyOne(fitting.map(([, text]) => toplevelOf(text)));
}

export function extlinuxDefault(conf: string): string | undefined {
  const wanted = settingOf(conf, 'default');
  const blocks = conf.split(/^[ \t]*label[ \t]+/im).slice(1);
  const block = blocks.find((one) => one.split('\n', 1)[0]?.trim() === wanted);
  return block === undefined ? undefined : toplevelOf(block);
}

export function grubDefault(cfg: string): string | undefined {
  const asked = new Set([...cfg.matchAll(/^\s*set default="?([^"\s]+)"?/gm)].map(([, word]) => word));
  // A saved entry is in the environment block, and who wrote that is not known here.
  if (asked.size > 1 || [...asked].some((word) => word !== '0')) return undefined;
  const first = /^\s*menuentry [\s\S]*?^\s*\}/m.exec(cfg)?.[0];
  return first === undefined ? undefined : toplevelOf(first);
}

function settingOf(conf: string, name: string): string | undefined {
  return new RegExp(`^[ \\t]*${name}[ \\t]+(\\S+)`, 'im').exec(conf)?.[1];
}

/** Without the counters of boot counting: `name+LEFT-DONE.conf`. */
function entryName(file: string): string {
  return file.replace(/\.conf$/, '').replace(/\+\d+(-\d+)?$/, '');
}

function toplevelOf(text: string): string | undefined {
  return /\binit=(\/nix\/store\/[^/\s]+)\/init\b/.exec(text)?.[1];
}

function onlyOne(values: readonly (string | undefined)[]): string | undefined {
  const [first, ...rest] = new Set(values);
  return rest.length === 0 ? first : undefined;
}

function globToRegExp(glob: string): RegExp {
  const escaped = glob.replaceAll(/[.+^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`);
}

async function readFirmware(root: string): Promise<Omit<LoaderWords, 'conf'>> {
  const read = async (name: string): Promise<Buffer | undefined> =>
    await findBytes(path.join(root, EFI_VARS, `${name}-${LOADER_GUID}`));
  const features = (await read('LoaderFeatures')) ?? Buffer.alloc(0);
  const knowsPreferred = features.length >= 8 && (features.readUInt32LE(4) & KNOWS_PREFERRED) !== 0;
  const asked = efiText(await read('LoaderEntryDefault'));
  return {
    knowsPreferred,
    asked: asked || (knowsPreferred ? efiText(await read('LoaderEntryPreferred')) : ''),
  };
}

/** UTF-16 behind four bytes of attributes. */
function efiText(bytes: Buffer | undefined): string {
  return bytes === undefined ? '' : bytes.subarray(4).toString('utf16le').replaceAll('\0', '');
}

async function readEntries(folder: string): Promise<Map<string, string>> {
  const names = await readdir(folder).catch(() => []);
  const entries = new Map<string, string>();
  for (const name of names.filter((one) => one.endsWith('.conf')))
    entries.set(name, (await findText(path.join(folder, name))) ?? '');
  return entries;
}

async function findText(file: string): Promise<string | undefined> {
  return (await findBytes(file))?.toString('utf8');
}

async function findBytes(file: string): Promise<Buffer | undefined> {
  const bytes = await readFile(file).catch(() => undefined);
  return bytes !== undefined && bytes.length <= MAX_FILE ? bytes : undefined;
}
