// Hardware keys and passphrases of editors go through the `age` program and its plugins, on the editor's own terminal.
// Hosts and the re-keyer never do. Plaintext crosses by pipes only.
import { exec } from '../effects/exec.ts';
import { runOnTerminal } from '../effects/run-on-terminal.ts';
import { SlipwayError } from '../util/errors.ts';

const ENCRYPT_TIMEOUT_MS = 60_000;
/** `age1yubikey1…`: a name between two separators, which no native recipient has except those of age itself. */
const PLUGIN = /^age1(?!pq1|tag1|tagpq1)[a-z0-9+._-]+1[a-z0-9]+$/;

/** Whether a recipient needs a plugin, so that only the `age` program can write to it. */
export function isPluginRecipient(line: string): boolean {
  return PLUGIN.test(line.trim());
}

export async function encryptWithAge(
  recipients: readonly string[],
  plaintext: Uint8Array,
  options: { readonly armor: boolean },
): Promise<Buffer> {
  const flags = [...recipients.flatMap((one) => ['-r', one]), ...(options.armor ? ['--armor'] : [])];
  const result = await exec(['age', '--encrypt', ...flags], {
    input: plaintext,
    timeoutMs: ENCRYPT_TIMEOUT_MS,
  });
  if (result.code === 0) return result.stdout;
  throw new SlipwayError('invalid', `age cannot encrypt to these recipients: ${lastLine(result.stderr)}`, {
    next: 'Install the plugin of the hardware key (age-plugin-…), or use keys that need none.',
  });
}

/** The plaintext; may ask for a passphrase or a touch. Fails with `forbidden` when none of the identities opens it. */
export async function decryptWithAge(identityFiles: readonly string[], file: Uint8Array): Promise<Buffer> {
  const flags = identityFiles.flatMap((one) => ['-i', one]);
  const result = await runOnTerminal(['age', '--decrypt', ...flags], { input: file, capture: true });
  if (result.code === 0) return result.stdout;
  throw new SlipwayError('forbidden', 'None of the identities opens the file.', {
    next: 'Give the private key of an editor of this file with --identity.',
  });
}

function lastLine(text: string): string {
  const lines = text.split('\n').filter((line) => /^age: (error|warning):/.test(line));
  return lines.at(-1)?.replace(/^age: /, '') ?? 'it did not say why';
}
