// Checks the `CA:` field of a narinfo: the path must be the one that the address determines, and the bytes must have the
// hash that it names. A content-addressed path is accepted by every Nix client without any signature.
import { equalHashes, parseHash, type Hash } from '../../nix/hash.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { contentAddressedPath, storePathName, type ContentAddress } from '../../nix/store-path.ts';
import { SlipwayError } from '../../util/errors.ts';

/** What is known of the NAR's bytes. */
export interface NarHashes {
  readonly nar: Hash;
  /** SHA-256 of the one file in it; `undefined` for anything else than a single file. */
  readonly flat: Hash | undefined;
}

/** Throws `narinfo_invalid` unless the content address, path and bytes agree. */
export function checkContentAddress(info: NarInfo, storeDir: string, hashes: NarHashes): void {
  if (info.contentAddress === undefined) return;
  const address = parseContentAddress(info.contentAddress);
  const selfReference = info.references.includes(info.storePath);
  const expected = contentAddressedPath({
    name: storePathName(info.storePath),
    address,
    references: info.references.filter((reference) => reference !== info.storePath),
    selfReference,
    storeDir,
  });
  if (expected !== info.storePath) throw refused(`${info.contentAddress} belongs to ${expected}`);
  if (!bytesAgree(address, selfReference, hashes))
    throw refused(`the NAR does not have ${info.contentAddress}`);
}

/**
 * Whether path and bytes are bound to each other, so that nobody's word is needed for the path. Stricter than the check
 * above: an address that the server could not compute from the bytes proves nothing.
 */
export function isContentAddressProven(info: NarInfo, storeDir: string, hashes: NarHashes): boolean {
  if (info.contentAddress === undefined || info.references.includes(info.storePath)) return false;
  if (parseContentAddress(info.contentAddress).hash.algo !== 'sha256') return false;
  checkContentAddress(info, storeDir, hashes);
  return true;
}

/** `text:<hash>`, `fixed:<hash>` (flat) and `fixed:r:<hash>` (NAR), as in libstore/content-address.cc. */
export function parseContentAddress(text: string): ContentAddress {
  const [, prefix = '', hash = ''] =
    /^(text:|fixed:r:|fixed:)((?:md5|sha1|sha256|sha512):\S+)$/.exec(text) ?? [];
  const method = prefix === 'text:' ? 'text' : prefix === 'fixed:r:' ? 'nar' : 'flat';
  if (prefix === '') throw refused(`"${text.slice(0, 100)}" is not a content address`);
  return { method, hash: parseHash(hash) };
}

/**
 * Only SHA-256 is computed while a NAR arrives. For other algorithms, and for a path that names itself (its hash is
 * taken with the name blanked out), the address binds the path and every client checks the bytes itself.
 */
function bytesAgree(address: ContentAddress, selfReference: boolean, hashes: NarHashes): boolean {
  if (address.hash.algo !== 'sha256' || selfReference) return true;
  const actual = address.method === 'nar' ? hashes.nar : hashes.flat;
  return actual !== undefined && equalHashes(actual, address.hash);
}

function refused(why: string): SlipwayError {
  return new SlipwayError('narinfo_invalid', `The content address of the path is wrong: ${why}.`);
}
