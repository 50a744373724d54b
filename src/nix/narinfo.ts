// narinfo: the text that describes a store path in a binary cache, `Key: value` lines (libstore/nar-info.cc).
// Signed are only path, NarHash, NarSize and references (the fingerprint); URL, compression and deriver are not.
import { SlipwayError } from '../util/errors.ts';
import { formatHash, parseHash, type Hash } from './hash.ts';
import { parseStorePath, parseStorePathBaseName, storePathBaseName, type StorePath } from './store-path.ts';

export interface NarInfo {
  readonly storePath: StorePath;
  /** Opaque to clients: relative to the cache, or absolute. */
  readonly url: string;
  /** Nix's name; a missing or empty one means bzip2. */
  readonly compression: string;
  readonly fileHash?: Hash;
  readonly fileSize?: number;
  readonly narHash: Hash;
  readonly narSize: number;
  readonly references: readonly StorePath[];
  readonly deriver?: string;
  readonly system?: string;
  readonly signatures: readonly string[];
  readonly contentAddress?: string;
}

/** Far above what real closures need (a path with 2,000 references is about 100 kB). */
export const MAX_NARINFO_BYTES = 1024 * 1024;
const MAX_SIGNATURES = 64;

const REPEATABLE = new Set(['Sig']);

/** Parses and checks a narinfo. Throws `narinfo_invalid` with the offending key. */
export function parseNarInfo(text: string, storeDir?: string): NarInfo {
  if (text.length > MAX_NARINFO_BYTES) throw invalid(`it is longer than ${MAX_NARINFO_BYTES} bytes`);
  const fields = readFields(text);
  try {
    return fromFields(fields, storeDir);
  } catch (error) {
    throw error instanceof SlipwayError && error.code !== 'narinfo_invalid' ? invalid(error.message) : error;
  }
}

export function formatNarInfo(info: NarInfo): string {
  const lines = [
    `StorePath: ${info.storePath}`,
    `URL: ${info.url}`,
    `Compression: ${info.compression}`,
    ...(info.fileHash ? [`FileHash: ${formatHash(info.fileHash)}`] : []),
    ...(info.fileSize === undefined ? [] : [`FileSize: ${info.fileSize}`]),
    `NarHash: ${formatHash(info.narHash)}`,
    `NarSize: ${info.narSize}`,
    `References: ${info.references.map(storePathBaseName).join(' ')}`,
    ...(info.deriver === undefined ? [] : [`Deriver: ${info.deriver}`]),
    ...(info.system === undefined ? [] : [`System: ${info.system}`]),
    ...info.signatures.map((signature) => `Sig: ${signature}`),
    ...(info.contentAddress === undefined ? [] : [`CA: ${info.contentAddress}`]),
  ];
  return `${lines.join('\n')}\n`;
}

/** What a signature covers: `1;<path>;<narHash in nix32>;<narSize>;<sorted references, comma-joined>`. */
export function fingerprint(info: Pick<NarInfo, 'storePath' | 'narHash' | 'narSize' | 'references'>): string {
  const references = [...new Set(info.references)].toSorted().join(',');
  return `1;${info.storePath};${formatHash(info.narHash)};${info.narSize};${references}`;
}

type Fields = ReadonlyMap<string, readonly string[]>;

function readFields(text: string): Fields {
  if (!text.endsWith('\n')) throw invalid('its last line does not end');
  const fields = new Map<string, string[]>();
  for (const line of text.slice(0, -1).split('\n')) {
    const colon = line.indexOf(':');
    if (colon <= 0) throw invalid(`the line "${line.slice(0, 80)}" has no key`);
    const key = line.slice(0, colon);
    const values = fields.get(key);
    if (values === undefined) fields.set(key, [line.slice(colon + 1).trim()]);
    else if (REPEATABLE.has(key)) values.push(line.slice(colon + 1).trim());
    else throw invalid(`the key ${key} is there twice`);
  }
  return fields;
}

function fromFields(fields: Fields, storeDir: string | undefined): NarInfo {
  const one = (key: string): string | undefined => fields.get(key)?.[0];
  const storePath = parseStorePath(required(fields, 'StorePath'), storeDir);
  const directory = storePath.slice(0, storePath.lastIndexOf('/'));
  const signatures = fields.get('Sig') ?? [];
  if (signatures.length > MAX_SIGNATURES) throw invalid(`it has more than ${MAX_SIGNATURES} signatures`);
  const fileHash = one('FileHash');
  const fileSize = one('FileSize');
  const deriver = one('Deriver');
  const system = one('System');
  const contentAddress = one('CA');
  return {
    storePath,
    url: required(fields, 'URL'),
    compression: one('Compression') || 'bzip2',
    ...(fileHash ? { fileHash: parseHash(fileHash, fileHash.includes(':') ? undefined : 'sha256') } : {}),
    ...(fileSize ? { fileSize: parseSize(fileSize, 'FileSize') } : {}),
    narHash: parseHash(required(fields, 'NarHash')),
    narSize: narSizeOf(required(fields, 'NarSize')),
    references: referencesOf(one('References') ?? '', directory),
    ...(deriver && deriver !== 'unknown-deriver' ? { deriver: parseDeriver(deriver, directory) } : {}),
    ...(system ? { system } : {}),
    signatures,
    ...(contentAddress ? { contentAddress } : {}),
  };
}

function required(fields: Fields, key: string): string {
  const value = fields.get(key)?.[0];
  if (value === undefined || value === '') throw invalid(`the key ${key} is missing`);
  return value;
}

function narSizeOf(text: string): number {
  const size = parseSize(text, 'NarSize');
  if (size === 0) throw invalid('NarSize is 0');
  return size;
}

function parseSize(text: string, key: string): number {
  const size = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(size)) throw invalid(`${key} is not a size`);
  return size;
}

function referencesOf(text: string, storeDir: string): StorePath[] {
  return text
    .split(/\s+/)
    .filter(Boolean)
    .map((baseName) => parseStorePathBaseName(baseName, storeDir));
}

function parseDeriver(baseName: string, storeDir: string): string {
  return storePathBaseName(parseStorePathBaseName(baseName, storeDir));
}

function invalid(why: string): SlipwayError {
  return new SlipwayError('narinfo_invalid', `The narinfo is refused: ${why}.`);
}
