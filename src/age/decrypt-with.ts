// Opens an age file with identities, and says which kind of failure it was without a word about the content.
import { Decrypter, type Identity } from 'age-encryption';
import { messageOf, SlipwayError } from '../util/errors.ts';
import { isArmored, parseAgeHeader, removeArmor } from './age-header.ts';
import type { AgeIdentity } from './age-identity.ts';

/**
 * `no_match`: a sound header that names none of the identities. `malformed`: not an age file. `damaged`: a stanza
 * that should be ours does not open, the header's MAC is wrong, or the content was altered or cut.
 */
export type DecryptOutcome =
  | { readonly kind: 'plaintext'; readonly plaintext: Buffer }
  | { readonly kind: 'no_match' }
  | { readonly kind: 'malformed'; readonly reason: string }
  | { readonly kind: 'damaged' };

/** Decrypts the whole file in memory; the caller fills `plaintext` with zeros after use. */
export async function decryptWith(
  identities: readonly AgeIdentity[],
  file: Uint8Array,
): Promise<DecryptOutcome> {
  const reason = findMalformation(file);
  if (reason !== undefined) return { kind: 'malformed', reason };
  const decrypter = new Decrypter();
  for (const identity of identities) decrypter.addIdentity(identity.reader);
  let allPassed = false;
  decrypter.addIdentity(lastIdentity(() => (allPassed = true)));
  try {
    const plaintext = await decrypter.decrypt(isArmored(file) ? removeArmor(file) : file);
    return {
      kind: 'plaintext',
      plaintext: Buffer.from(plaintext.buffer, plaintext.byteOffset, plaintext.length),
    };
  } catch {
    return { kind: allPassed ? 'no_match' : 'damaged' };
  }
}

/** Identities are asked in order: who is asked last knows that nobody before matched or failed. */
function lastIdentity(asked: () => void): Identity {
  return {
    unwrapFileKey: () => {
      asked();
      return null;
    },
  };
}

function findMalformation(file: Uint8Array): string | undefined {
  try {
    parseAgeHeader(file);
    return undefined;
  } catch (error) {
    return error instanceof SlipwayError ? String(error.facts['reason']) : messageOf(error);
  }
}
