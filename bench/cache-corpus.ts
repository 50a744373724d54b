// The closures that bench/cache.ts stores: Debian packages as fake store paths, with references where Nix has them, in
// four states: as released, rebuilt (every hash and build-id is another), with security updates, of the next release.
// Taken from the sources that apt knows on this machine; kept outside of the repository and made only once.
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { formatBase32 } from '../src/nix/base32.ts';
import { writeNar } from '../src/nix/nar-writer.ts';
import { readNarNode } from '../src/effects/nar-files.ts';

export interface CorpusPath {
  readonly storePath: string;
  readonly references: readonly string[];
  /** File with the NAR. */
  readonly file: string;
  readonly size: number;
  /** SHA-256, hex. */
  readonly hash: string;
}

export const VARIANTS = ['base', 'rebuild', 'security', 'upgrade'] as const;
export type Variant = (typeof VARIANTS)[number];
export type Corpus = Readonly<Record<Variant, readonly CorpusPath[]>>;

const SMALL = words(`
  libc6 libgcc-s1 libstdc++6 bash coreutils curl libcurl4 openssl libssl3 git libsystemd0 systemd udev
  openssh-client openssh-server perl-base perl-modules-5.36 zlib1g libpython3.11-stdlib libpython3.11-minimal
  python3.11-minimal sqlite3 libsqlite3-0 vim-runtime vim nginx libxml2 libgnutls30 libglib2.0-0 tar gzip
  xz-utils findutils grep sed gawk
`);
const FULL = [
  ...SMALL,
  ...words(`
  postgresql-15 gcc-12 cpp-12 g++-12 libgcc-12-dev libstdc++-12-dev binutils-x86-64-linux-gnu docker.io
  linux-libc-dev libllvm15 golang-1.19-src qemu-system-x86 samba-libs php8.2-cli ruby3.1 libruby3.1 libicu72
  bind9-libs ffmpeg libavcodec59 libx265-199 imagemagick-6-common libmagickcore-6.q16-6 nodejs libnode108
  mariadb-server-core redis-server emacs-common tzdata locales iso-codes
`),
];
function words(text: string): string[] {
  return text.trim().split(/\s+/);
}

/** Names that the next release gives the same thing; what has none is left out there. */
const NEXT_NAMES: Readonly<Record<string, string>> = {
  'perl-modules-5.36': 'perl-modules-5.40',
  'libpython3.11-stdlib': 'libpython3.13-stdlib',
  'libpython3.11-minimal': 'libpython3.13-minimal',
  'python3.11-minimal': 'python3.13-minimal',
  libssl3: 'libssl3t64',
  libcurl4: 'libcurl4t64',
  libgnutls30: 'libgnutls30t64',
  'libglib2.0-0': 'libglib2.0-0t64',
  'postgresql-15': 'postgresql-17',
  'gcc-12': 'gcc-14',
  'cpp-12': 'cpp-14',
  'g++-12': 'g++-14',
  'libgcc-12-dev': 'libgcc-14-dev',
  'libstdc++-12-dev': 'libstdc++-14-dev',
  libllvm15: 'libllvm19',
  'golang-1.19-src': 'golang-1.24-src',
  'php8.2-cli': 'php8.4-cli',
  'ruby3.1': 'ruby3.3',
  'libruby3.1': 'libruby3.3',
  libicu72: 'libicu76',
  libavcodec59: 'libavcodec61',
  'libx265-199': 'libx265-215',
  libnode108: 'libnode115',
};
const NEXT_RELEASE: Readonly<Record<string, string>> = { bookworm: 'trixie', trixie: 'forky' };

/** Makes the corpus below `directory` unless it is there. */
export async function makeCorpus(directory: string, full: boolean): Promise<Corpus> {
  const index = path.join(directory, `${full ? 'full' : 'small'}.json`);
  if (existsSync(index)) return JSON.parse(readFileSync(index, 'utf8')) as Corpus;
  mkdirSync(directory, { recursive: true });
  const { site, security, suite } = findSources();
  const packages = full ? FULL : SMALL;
  const next = packages.map((name) => NEXT_NAMES[name] ?? name);
  const base = unpack(directory, { name: 'base', sources: [[site, suite]], packages });
  const fixed = unpack(directory, {
    name: 'security',
    sources: [
      [site, suite],
      [security, `${suite}-security`],
    ],
    packages,
  });
  const upgraded = unpack(directory, {
    name: 'upgrade',
    sources: [[site, NEXT_RELEASE[suite] ?? 'sid']],
    packages: next,
  });
  const nars = path.join(directory, full ? 'full' : 'small'); // what a path references depends on what else there is
  const corpus = {
    base: await makePaths(nars, 'base', base),
    rebuild: await makePaths(nars, 'rebuild', base),
    security: await makePaths(nars, 'security', fixed),
    upgrade: await makePaths(nars, 'upgrade', upgraded),
  };
  writeFileSync(`${index}.new`, JSON.stringify(corpus));
  renameSync(`${index}.new`, index);
  return corpus;
}

/** Where this machine's apt gets Debian from. */
function findSources(): { site: string; security: string; suite: string } {
  const format = '$(REPO_URI) $(RELEASE) $(ORIGIN)';
  const lines = execFileSync('apt-get', ['indextargets', '--format', format, 'Identifier: Packages'])
    .toString()
    .split('\n')
    .map((line) => line.split(' '))
    .filter((fields) => fields[2] === 'Debian');
  const suite = lines.map((fields) => fields[1] ?? '').find((name) => name in NEXT_RELEASE);
  const site = lines.find((fields) => fields[1] === suite)?.[0];
  const security = lines.find((fields) => fields[1] === `${suite}-security`)?.[0];
  if (suite === undefined || site === undefined || security === undefined)
    throw new Error('apt knows no Debian release that this corpus can be made of');
  return { site, security, suite };
}

interface Fetched {
  readonly name: string;
  /** `[URI, suite]` */
  readonly sources: readonly (readonly [string, string])[];
  readonly packages: readonly string[];
}

interface Unpacked {
  readonly name: string;
  readonly version: string;
  readonly depends: readonly string[];
  readonly directory: string;
}

/** Downloads with an apt that knows these sources only, and unpacks. */
function unpack(directory: string, { name, sources, packages }: Fetched): Unpacked[] {
  const root = path.join(directory, `apt-${name}`);
  for (const folder of ['lists/partial', 'cache/archives/partial', 'debs', 'trees'])
    mkdirSync(path.join(root, folder), { recursive: true });
  const list = sources.map(
    ([uri, suite]) => `deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${uri} ${suite} main\n`,
  );
  writeFileSync(path.join(root, 'sources.list'), list.join(''));
  writeFileSync(path.join(root, 'status'), '');
  const settings = {
    'Dir::Etc::sourcelist': `${root}/sources.list`,
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::State': root,
    'Dir::State::status': `${root}/status`,
    'Dir::Cache': `${root}/cache`,
    'APT::Sandbox::User': 'root',
  };
  const options = [
    '-q',
    '-q',
    ...Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]),
  ];
  execFileSync('apt-get', [...options, 'update'], { stdio: ['ignore', 'ignore', 'inherit'] });
  const asked = execFileSync('apt-cache', [...options, 'madison', ...packages, 'patchelf'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const wanted = [
    ...new Set(
      asked
        .toString()
        .split('\n')
        .map((line) => line.split('|')[0]?.trim() ?? ''),
    ),
  ].filter((one) => one !== '');
  execFileSync('apt-get', [...options, 'download', ...wanted], {
    cwd: path.join(root, 'debs'),
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return readdirSync(path.join(root, 'debs'))
    .filter((file) => file.endsWith('.deb'))
    .toSorted()
    .map((file) => unpackDeb(path.join(root, 'debs', file), path.join(root, 'trees')));
}

function unpackDeb(deb: string, trees: string): Unpacked {
  const [name = '', version = '', depends = ''] = execFileSync('dpkg-deb', [
    '--show',
    '--showformat=${Package}\n${Version}\n${Depends}, ${Pre-Depends}',
    deb,
  ])
    .toString()
    .split('\n');
  const directory = path.join(trees, name);
  if (!existsSync(directory)) execFileSync('dpkg-deb', ['-x', deb, directory]);
  return {
    name,
    version,
    directory,
    depends: [...depends.matchAll(/[a-z0-9][a-z0-9.+-]+/g)].map(([word]) => word),
  };
}

/** Writes the packages' NARs with references that belong to the variant. */
async function makePaths(
  directory: string,
  variant: Variant,
  packages: readonly Unpacked[],
): Promise<CorpusPath[]> {
  const patchelf = path.join(
    packages.find(({ name }) => name === 'patchelf')?.directory ?? '',
    'usr/bin/patchelf',
  );
  const names = new Map(packages.map((one) => [one.name, storePathOf(variant, one)]));
  const folder = path.join(directory, variant);
  mkdirSync(folder, { recursive: true });
  const paths: CorpusPath[] = [];
  for (const one of packages) {
    if (one.name === 'patchelf') continue;
    const self = names.get(one.name) ?? '';
    const references = [...new Set([self, ...one.depends.flatMap((name) => names.get(name) ?? [])])];
    const file = path.join(folder, `${one.name}.nar`);
    const tree = path.join(directory, 'tree');
    rmSync(tree, { recursive: true, force: true });
    execFileSync('cp', ['-a', one.directory, tree]);
    for (const entry of filesOf(tree)) rewrite(entry, references, { patchelf, salt: variant });
    const nar = await narOf(tree);
    writeFileSync(file, nar);
    const hash = createHash('sha256').update(nar).digest('hex');
    paths.push({ storePath: self, references, file, size: nar.length, hash });
    rmSync(tree, { recursive: true, force: true });
  }
  return paths;
}

/** The Debian revision is no part of the name, as Nix has none. */
function storePathOf(variant: Variant, { name, version }: Unpacked): string {
  const digest = createHash('sha256').update(`${variant} ${name} ${version}`).digest().subarray(0, 20);
  const plain = version
    .replace(/^\d+:/, '')
    .replace(/-[^-]*$/, '')
    .replaceAll(/[^\w.+-]/g, '-');
  return `/nix/store/${formatBase32(digest)}-${name}-${plain}`;
}

function filesOf(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
}

interface Tools {
  readonly patchelf: string;
  readonly salt: string;
}

function rewrite(file: string, references: readonly string[], tools: Tools): void {
  const bytes = readFileSync(file);
  if (bytes.subarray(0, 4).toString('latin1') === '\u007FELF') return rewriteElf(file, references, tools);
  if (bytes.length > 4_000_000 || bytes.subarray(0, 8000).includes(0)) return;
  const [self = ''] = references;
  const text = bytes.toString('latin1');
  const changed = text.replaceAll(/(?<![\w.-])\/usr\/(?=(bin|lib|share)\/)/g, `${self}/`);
  if (changed !== text) writeFileSync(file, changed, 'latin1');
}

/** RPATH and interpreter by patchelf, paths in read-only data overwritten, another build-id: not runnable, but alike. */
function rewriteElf(file: string, references: readonly string[], { patchelf, salt }: Tools): void {
  if (!file.endsWith('.o') && !file.endsWith('.ko')) link(file, references, patchelf);
  const bytes = readFileSync(file);
  nameReferences(bytes, references);
  const note = bytes.indexOf(Buffer.from('040000001400000003000000474e5500', 'hex'));
  if (note !== -1 && salt !== 'base') {
    const before = bytes.subarray(note + 16, note + 36);
    createHash('sha1')
      .update(before)
      .update(salt)
      .digest()
      .copy(bytes, note + 16);
  }
  writeFileSync(file, bytes);
}

function link(file: string, references: readonly string[], patchelf: string): void {
  const run = (...argv: string[]): void => {
    try {
      execFileSync(patchelf, [...argv, file], { stdio: 'ignore' });
    } catch {
      // not dynamic: Nix leaves those alone as well
    }
  };
  const libc = references.find((one) => one.includes('-libc6-')) ?? references[0] ?? '';
  const folders = references.slice(0, 6).map((one) => `${one}/lib`);
  run('--set-rpath', folders.join(':'));
  if (/\/s?bin\//.test(file)) run('--set-interpreter', `${libc}/lib/ld-linux-x86-64.so.2`);
}

function nameReferences(bytes: Buffer, references: readonly string[]): void {
  let count = 0;
  for (const word of ['\0/usr/', '\0/etc/', '\0/var/'])
    for (let at = bytes.indexOf(word); at !== -1; at = bytes.indexOf(word, at + 64)) {
      const reference = references[count++ % references.length] ?? '';
      if (at + 200 < bytes.length) bytes.write(reference.slice(0, 44), at + 1, 'latin1');
    }
}

async function narOf(tree: string): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of writeNar(await readNarNode(tree))) parts.push(part);
  return Buffer.concat(parts);
}
