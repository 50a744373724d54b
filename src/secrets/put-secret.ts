// Writes a secret for the editors and the re-keyer with public keys alone: who puts a secret need not be able to read
// any. The value is in memory only; the caller fills it with zeros.
import { parseAgeRecipient, type AgeRecipient } from '../age/age-recipient.ts';
import { encryptTo } from '../age/encrypt-to.ts';
import { messageOf, SlipwayError } from '../util/errors.ts';
import { encryptWithAge, isPluginRecipient } from './age-program.ts';
import { findPathFault } from './secret-path.ts';

export interface PutSecretRequest {
  /** Path in the repository. */
  readonly path: string;
  readonly value: Uint8Array;
  /** Key lines of `slipway.secrets.editors` and `slipway.secrets.rekeyer`. */
  readonly editors: readonly string[];
  readonly rekeyers: readonly string[];
  readonly armor?: boolean;
}

/** The age file. Fails with `invalid` for a hostile path, an empty value, or a key that cannot be written to. */
export async function putSecret(request: PutSecretRequest): Promise<Buffer> {
  const fault = findPathFault(request.path);
  if (fault !== undefined) throw refused(`The path ${JSON.stringify(request.path)} is refused: ${fault}.`);
  if (request.value.length === 0)
    throw refused('The value is empty, and no host can install an empty secret.');
  const lines = unique([...request.editors, ...request.rekeyers]);
  const armor = request.armor === true;
  if (lines.some(isPluginRecipient)) return await encryptWithAge(lines, request.value, { armor });
  return await encryptTo(parseRecipients(lines), request.value, { armor });
}

function unique(lines: readonly string[]): string[] {
  return [...new Set(lines.map((line) => line.trim()))];
}

function parseRecipients(lines: readonly string[]): readonly AgeRecipient[] {
  if (lines.length === 0) {
    throw new SlipwayError('invalid', 'There is nobody to encrypt the secret to.', {
      next: 'Set slipway.secrets.editors and slipway.secrets.rekeyer in the flake.',
    });
  }
  const parsed = lines.map((line) => {
    try {
      return parseAgeRecipient(line);
    } catch (error) {
      throw refused(`The editor key "${shorten(line)}" cannot be written to: ${messageOf(error)}`);
    }
  });
  return [...new Map(parsed.map((recipient) => [recipient.text, recipient])).values()];
}

function shorten(line: string): string {
  return line.length <= 60 ? line : `${line.slice(0, 30)}…${line.slice(-25)}`;
}

function refused(message: string): SlipwayError {
  return new SlipwayError('invalid', message);
}
