// Store paths: `/nix/store/<32 base32 characters>-<name>`, and how content addresses determine them
// (libstore/store-api.cc makeStorePath, makeFixedOutputPath, makeTextPath).
import { createHash } from 'node:crypto';
import { SlipwayError } from '../util/errors.ts';
import { formatBase32 } from './base32.ts';
import { formatHashBytes, type Hash } from './hash.ts';

declare const brand: unique symbol;
/** A whole, checked store path. */
export type StorePath = string & { readonly [brand]: 'StorePath' };
/** The 32 characters that name a path in URLs. */
export type StorePathHash = string & { readonly [brand]: 'StorePathHash' };

export const DEFAULT_STORE_DIR = '/nix/store';
const HASH = '[0-9abcdfghijklmnpqrsvwxyz]{32}';
const MAX_NAME = 211; // libstore/path.hh: StorePath::MaxPathLen
const BASE_NAME = new RegExp(`^(${HASH})-([A-Za-z0-9+._?=-]{1,${MAX_NAME}})$`);

/** Checks and brands a full path. Throws `invalid`. */
export function parseStorePath(text: string, storeDir: string = DEFAULT_STORE_DIR): StorePath {
  if (!text.startsWith(`${storeDir}/`)) throw malformed(text, `it is not directly in ${storeDir}`);
  return parseStorePathBaseName(text.slice(storeDir.length + 1), storeDir);
}

/** Checks `<hash>-<name>` and gives the full path. Throws `invalid`. */
export function parseStorePathBaseName(baseName: string, storeDir: string = DEFAULT_STORE_DIR): StorePath {
  const match = BASE_NAME.exec(baseName);
  if (match === null) throw malformed(baseName, 'it must be 32 base32 characters, a dash and a name');
  // Nix refuses names that are or begin with `.` or `..` components (libstore/path.cc checkName).
  if (/^\.\.?(-|$)/.test(match[2] ?? '')) throw malformed(baseName, 'its name begins with a dot component');
  return `${storeDir}/${baseName}` as StorePath;
}

export function isStorePath(text: string, storeDir: string = DEFAULT_STORE_DIR): boolean {
  try {
    parseStorePath(text, storeDir);
    return true;
  } catch {
    return false;
  }
}

/** `<hash>-<name>`. */
export function storePathBaseName(path: StorePath): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

export function storePathHash(path: StorePath): StorePathHash {
  return storePathBaseName(path).slice(0, 32) as StorePathHash;
}

export function storePathName(path: StorePath): string {
  return storePathBaseName(path).slice(33);
}

/** What a content address says of a path: a text file, a flat file or a NAR with this hash. */
export interface ContentAddress {
  readonly method: 'text' | 'flat' | 'nar';
  readonly hash: Hash;
}

export interface ContentAddressedFacts {
  readonly name: string;
  readonly address: ContentAddress;
  readonly references: readonly StorePath[];
  readonly selfReference?: boolean;
  readonly storeDir?: string;
}

/** The store path that a content address determines. Throws `invalid` for references that its kind cannot have. */
export function contentAddressedPath(facts: ContentAddressedFacts): StorePath {
  const { address, name } = facts;
  const storeDir = facts.storeDir ?? DEFAULT_STORE_DIR;
  const digest = formatHashBytes(address.hash.bytes, 'hex');
  const references = [...facts.references.toSorted(), ...(facts.selfReference === true ? ['self'] : [])];
  if (address.method === 'text') {
    if (address.hash.algo !== 'sha256' || facts.selfReference === true) throw impossible(address);
    return makeStorePath(['text', ...references].join(':'), `sha256:${digest}`, name, storeDir);
  }
  if (address.method === 'nar' && address.hash.algo === 'sha256') {
    return makeStorePath(['source', ...references].join(':'), `sha256:${digest}`, name, storeDir);
  }
  // Only then would the references be part of the name; Nix refuses them too (makeFixedOutputPath).
  if (references.length > 0) throw impossible(address);
  const inner = `fixed:out:${address.method === 'nar' ? 'r:' : ''}${address.hash.algo}:${digest}:`;
  const fixed = createHash('sha256').update(inner).digest('hex');
  return makeStorePath('output:out', `sha256:${fixed}`, name, storeDir);
}

function impossible({ method, hash }: ContentAddress): SlipwayError {
  return new SlipwayError(
    'invalid',
    `A ${method} content address with ${hash.algo} cannot have these references.`,
  );
}

function makeStorePath(type: string, digest: string, name: string, storeDir: string): StorePath {
  const full = createHash('sha256').update(`${type}:${digest}:${storeDir}:${name}`).digest();
  return parseStorePathBaseName(`${formatBase32(foldHash(full, 20))}-${name}`, storeDir);
}

/** libutil/hash.cc compressHash: XOR of the bytes into a shorter array. */
function foldHash(bytes: Uint8Array, size: number): Uint8Array {
  const folded = new Uint8Array(size);
  bytes.forEach((byte, i) => (folded[i % size] = (folded[i % size] ?? 0) ^ byte));
  return folded;
}

function malformed(text: string, why: string): SlipwayError {
  return new SlipwayError('invalid', `"${text.slice(0, 260)}" is not a store path: ${why}.`);
}
