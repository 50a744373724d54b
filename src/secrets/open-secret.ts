// Opens a file of the source branch for an editor: in this process where the keys can be used here, else by the `age`
// program, which asks for a passphrase or a touch.
import { readFile } from 'node:fs/promises';
import { parseAgeIdentities, type AgeIdentity } from '../age/age-identity.ts';
import { decryptWith } from '../age/decrypt-with.ts';
import { SlipwayError } from '../util/errors.ts';
import { decryptWithAge } from './age-program.ts';

/** The plaintext, which the caller fills with zeros. `identityFiles` that do not exist are left aside. */
export async function openSecret(file: Buffer, identityFiles: readonly string[]): Promise<Buffer> {
  const { usable, foreign } = await readIdentities(identityFiles);
  const opened = await decryptWith(usable, file);
  if (opened.kind === 'plaintext') return opened.plaintext;
  if (opened.kind !== 'no_match') throw damaged();
  if (foreign.length > 0) return await decryptWithAge(foreign, file);
  throw new SlipwayError('forbidden', `No identity opens the file: tried ${identityFiles.join(', ')}.`, {
    next: 'Give the private key of an editor of this file with --identity; or replace the value: slipway secrets put.',
  });
}

/** `foreign`: files that exist and are no key for this process: encrypted ones, and those of plugins. */
async function readIdentities(
  files: readonly string[],
): Promise<{ readonly usable: AgeIdentity[]; readonly foreign: string[] }> {
  const usable: AgeIdentity[] = [];
  const foreign: string[] = [];
  for (const name of files) {
    const bytes = await readFile(name).catch(() => undefined); // a default that this user does not have
    if (bytes === undefined) continue;
    try {
      usable.push(...(await parseAgeIdentities(bytes)));
    } catch {
      foreign.push(name);
    } finally {
      bytes.fill(0);
    }
  }
  return { usable, foreign };
}

function damaged(): SlipwayError {
  return new SlipwayError('secrets_failed', 'The file is not a sound age file.', {
    next: 'Bring it back from an earlier commit, or replace it: slipway secrets put.',
  });
}
