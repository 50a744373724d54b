// File names under `nar/`. What we hand out is named by content: `<nix32 of the NAR's SHA-256>.nar.zst`, or `.nar` for
// the plain bytes. What clients upload is named by the SHA-256 of the file that they send (binary-cache-store.cc).
import { formatBase32, parseBase32 } from '../nix/base32.ts';

const NAR_NAME = /^([0-9abcdfghijklmnpqrsvwxyz]{52})\.nar(\.[a-z0-9]{1,5})?$/;

export interface NarName {
  /** The SHA-256 in the name. */
  readonly hash: Uint8Array;
  /** Ending after `.nar`, dot included, or empty. */
  readonly suffix: string;
}

/** `undefined` for anything that is not `<52 characters>.nar[.ending]`. */
export function parseNarName(fileName: string): NarName | undefined {
  const [, digest, suffix = ''] = NAR_NAME.exec(fileName) ?? [];
  // The first character holds one bit only; more would be another spelling of the same hash.
  if (digest === undefined || (digest[0] !== '0' && digest[0] !== '1')) return undefined;
  return { hash: parseBase32(digest, 32), suffix };
}

export function formatNarName(narHash: Uint8Array, suffix: '' | '.zst'): string {
  return `${formatBase32(narHash)}.nar${suffix}`;
}
