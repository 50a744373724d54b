// Finds the value behind a secret reference of a configuration file (src/api/secret-reference.ts).
// The value goes to its caller only: no message and no error of this file carries it.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { SlipwayError } from '../util/errors.ts';
import { execText } from './exec.ts';

const MAX_SECRET_BYTES = 64 * 1024;
const OP_TIMEOUT_MS = 30_000;

/** The value, without its final newline. Fails with `invalid` when the reference leads nowhere. */
export async function readSecretReference(
  reference: string,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<string> {
  const value = await lookUp(reference, env);
  const trimmed = value.replace(/\r?\n$/, '');
  if (trimmed !== '') return trimmed;
  throw new SlipwayError('invalid', `The secret at ${reference} is empty.`, {
    next: 'Put the value there, or correct the reference in the configuration.',
  });
}

/** The file that a reference names, when it names one: some programs are better told the path than the value. */
export function secretFilePath(
  reference: string,
  env: Readonly<Record<string, string | undefined>> = process.env,
): string | undefined {
  if (reference.startsWith('file:')) return reference.slice('file:'.length);
  if (!reference.startsWith('credential:')) return undefined;
  const folder = env['CREDENTIALS_DIRECTORY'];
  if (folder === undefined) {
    throw new SlipwayError(
      'invalid',
      `${reference} needs a systemd unit: CREDENTIALS_DIRECTORY is not set.`,
      {
        next: 'Start it as a unit with LoadCredential=, or use a file:/path reference.',
      },
    );
  }
  return path.join(folder, reference.slice('credential:'.length));
}

async function lookUp(reference: string, env: Readonly<Record<string, string | undefined>>): Promise<string> {
  const file = secretFilePath(reference, env);
  if (file !== undefined) return await readSecretFile(reference, file);
  if (reference.startsWith('op://')) {
    return await execText(['op', 'read', '--no-newline', reference], { timeoutMs: OP_TIMEOUT_MS });
  }
  const name = reference.slice('env:'.length);
  const value = env[name];
  if (reference.startsWith('env:') && value !== undefined) return value;
  throw new SlipwayError('invalid', `The secret at ${reference} does not exist.`, {
    next: 'Set the variable, or correct the reference in the configuration.',
  });
}

async function readSecretFile(reference: string, file: string): Promise<string> {
  try {
    const bytes = await readFile(file);
    if (bytes.length <= MAX_SECRET_BYTES) return bytes.toString('utf8');
  } catch (cause) {
    throw new SlipwayError('invalid', `The secret at ${reference} cannot be read.`, {
      next: `Check that ${file} exists and that this user may read it.`,
      cause,
    });
  }
  throw new SlipwayError('too_large', `The secret at ${reference} is larger than ${MAX_SECRET_BYTES} bytes.`);
}
