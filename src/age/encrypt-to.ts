// Writes an age file to recipients, with a fresh file key each time, as the format demands.
import { armor, Encrypter } from 'age-encryption';
import { SlipwayError } from '../util/errors.ts';
import { isPostQuantum, type AgeRecipient } from './age-recipient.ts';

export interface EncryptOptions {
  /** Text in age's armor instead of bytes. */
  readonly armor?: boolean;
}

/** The age file. Fails with `invalid` when there is no recipient or post-quantum ones are mixed with others. */
export async function encryptTo(
  recipients: readonly AgeRecipient[],
  plaintext: Uint8Array,
  options: EncryptOptions = {},
): Promise<Buffer> {
  checkRecipients(recipients);
  const encrypter = new Encrypter();
  for (const recipient of recipients) encrypter.addRecipient(recipient.writer);
  const bytes = await encrypter.encrypt(plaintext);
  return options.armor === true
    ? Buffer.from(armor.encode(bytes))
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function checkRecipients(recipients: readonly AgeRecipient[]): void {
  if (recipients.length === 0) throw new SlipwayError('invalid', 'An age file needs at least one recipient.');
  const postQuantum = recipients.filter(isPostQuantum).length;
  if (postQuantum === 0 || postQuantum === recipients.length) return;
  throw new SlipwayError('invalid', 'Post-quantum recipients cannot be mixed with others in one file.', {
    next: 'Give every recipient of the file an age1pq1… key, or none.',
  });
}
