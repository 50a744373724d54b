// Hashes in every spelling that Nix prints or reads: `algo:` with hex, nix32 or base64, and SRI `algo-base64`.
import { SlipwayError } from '../util/errors.ts';
import { base32Length, formatBase32, parseBase32 } from './base32.ts';

export type HashAlgorithm = 'md5' | 'sha1' | 'sha256' | 'sha512';
export type HashFormat = 'nix32' | 'hex' | 'base64' | 'sri';

export interface Hash {
  readonly algo: HashAlgorithm;
  readonly bytes: Uint8Array;
}

const SIZES: Readonly<Record<HashAlgorithm, number>> = { md5: 16, sha1: 20, sha256: 32, sha512: 64 };

/** `sha256:1b8m…` and the like; `sri` gives `sha256-…`. */
export function formatHash(hash: Hash, format: HashFormat = 'nix32'): string {
  if (format === 'sri') return `${hash.algo}-${Buffer.from(hash.bytes).toString('base64')}`;
  return `${hash.algo}:${formatHashBytes(hash.bytes, format)}`;
}

export function formatHashBytes(bytes: Uint8Array, format: 'nix32' | 'hex' | 'base64'): string {
  return format === 'nix32' ? formatBase32(bytes) : Buffer.from(bytes).toString(format);
}

/** Any spelling; a bare digest needs `algo`. Throws `invalid`. */
export function parseHash(text: string, algo?: HashAlgorithm): Hash {
  const match = /^(?:(md5|sha1|sha256|sha512)([:-]))?([A-Za-z0-9+/=]+)$/.exec(text);
  const named = (match?.[1] as HashAlgorithm | undefined) ?? algo;
  if (match === null || named === undefined || (algo !== undefined && named !== algo)) throw malformed(text);
  const digest = match[3] ?? '';
  const bytes = match[2] === '-' ? parseBase64(digest, SIZES[named]) : parseDigest(digest, SIZES[named]);
  if (bytes === undefined) throw malformed(text);
  return { algo: named, bytes };
}

export function equalHashes(a: Hash, b: Hash): boolean {
  return a.algo === b.algo && Buffer.compare(a.bytes, b.bytes) === 0;
}

/** The spelling follows from the length: hex, nix32 and base64 of one size never have the same. */
function parseDigest(digest: string, size: number): Uint8Array | undefined {
  if (digest.length === size * 2 && /^[0-9a-fA-F]+$/.test(digest)) return Buffer.from(digest, 'hex');
  if (digest.length === base32Length(size)) return parseBase32(digest, size);
  return parseBase64(digest, size);
}

function parseBase64(digest: string, size: number): Uint8Array | undefined {
  const bytes = Buffer.from(digest, 'base64');
  return bytes.length === size && bytes.toString('base64') === digest ? bytes : undefined;
}

function malformed(text: string): SlipwayError {
  return new SlipwayError('invalid', `"${text.slice(0, 160)}" is not a hash that Nix knows.`);
}
