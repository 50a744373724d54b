// What opens age files: age identity files (comments, `AGE-SECRET-KEY-1…`, `AGE-SECRET-KEY-PQ-1…`) and SSH private keys.
import { Decrypter, identityToRecipient, type Identity } from 'age-encryption';
import { SlipwayError } from '../util/errors.ts';
import { parseAgeRecipient, type AgeRecipient } from './age-recipient.ts';
import { sshEd25519Unwrapper } from './ssh-ed25519.ts';
import { parseSshPrivateKey } from './ssh-private-key.ts';
import { sshRsaUnwrapper } from './ssh-rsa.ts';

export interface AgeIdentity {
  /** The public half: who a file must name for this identity to open it. */
  readonly recipient: AgeRecipient;
  /** What `age-encryption` takes: a text that it knows itself, or the code that opens the stanza. */
  readonly reader: string | Identity;
}

/** Parses an identity file. Fails with `invalid`; the message never carries any of its bytes. */
export async function parseAgeIdentities(file: Uint8Array): Promise<readonly AgeIdentity[]> {
  const text = Buffer.from(file).toString('latin1');
  if (text.trimStart().startsWith('-----BEGIN ')) return [sshIdentity(file)];
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const keys = lines.filter((line) => line !== '' && !line.startsWith('#'));
  if (keys.length === 0) throw notAnIdentity();
  return await Promise.all(keys.map(nativeIdentity));
}

function sshIdentity(file: Uint8Array): AgeIdentity {
  const key = parseSshPrivateKey(file);
  const unwrapFileKey = key.type === 'ssh-ed25519' ? sshEd25519Unwrapper(key) : sshRsaUnwrapper(key);
  return { recipient: parseAgeRecipient(key.publicKey.text), reader: { unwrapFileKey } };
}

async function nativeIdentity(text: string): Promise<AgeIdentity> {
  try {
    new Decrypter().addIdentity(text);
    return { recipient: parseAgeRecipient(await identityToRecipient(text)), reader: text };
  } catch {
    throw notAnIdentity(); // the library's reason is dropped on purpose: nothing of a key in a message
  }
}

function notAnIdentity(): SlipwayError {
  return new SlipwayError(
    'invalid',
    'The file holds something that is not an age identity or SSH private key.',
    {
      next: 'Give an unencrypted OpenSSH key (ssh-keygen -t ed25519 -N "") or an age identity (age-keygen).',
    },
  );
}
