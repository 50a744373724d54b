// URLs of NARs that other servers handed out. Clients remember a narinfo for 30 days, so after a move to Slipway they
// still ask by them. nix-serve and harmonia: `<store hash>-<NAR hash>.nar`, plain. Attic: `<store hash>.nar`, whose
// bytes are compressed as its narinfo said, by default with zstd; the oldest nix-serve used the same name for plain
// bytes, which cannot be told apart and is not served.
import { parseBase32 } from '../nix/base32.ts';
import type { Encoding } from './content-reader.ts';

const HASH = '[0-9abcdfghijklmnpqrsvwxyz]';
const NIX_SERVE = new RegExp(`^(${HASH}{32})-([01]${HASH}{51})\\.nar$`);
const ATTIC = new RegExp(`^(${HASH}{32})\\.nar(\\.zst)?$`);

export interface LegacyNarName {
  /** Hash part of the store path. */
  readonly hash: string;
  /** When the name holds it, the NAR must be the one with this SHA-256. */
  readonly narHash: Uint8Array | undefined;
  readonly encoding: Encoding;
}

export function parseLegacyNarName(fileName: string): LegacyNarName | undefined {
  const [, plain, narHash] = NIX_SERVE.exec(fileName) ?? [];
  if (plain !== undefined && narHash !== undefined)
    return { hash: plain, narHash: parseBase32(narHash, 32), encoding: 'raw' };
  const [, hash] = ATTIC.exec(fileName) ?? [];
  return hash === undefined ? undefined : { hash, narHash: undefined, encoding: 'zstd' };
}
