// Signatures of ssh keys over a message (OpenSSH's SSHSIG, `ssh-keygen -Y`): what people sign approvals with. Works with
// every key that OpenSSH knows, hardware keys and agents included. Messages and signatures are public.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { SlipwayError } from '../util/errors.ts';
import { exec } from './exec.ts';

const TIMEOUT_MS = 30_000;
const GOOD = /^Good "[^"]*" signature with \S+ key (SHA256:[A-Za-z0-9+/]{43})$/m;

/** The armored signature. `keyFile` is a private key, or a public one whose private half an agent holds. */
export async function signWithSsh(
  message: string,
  { keyFile, namespace }: { readonly keyFile: string; readonly namespace: string },
): Promise<string> {
  const argv = ['ssh-keygen', '-Y', 'sign', '-q', '-f', keyFile, '-n', namespace];
  const result = await exec(argv, { input: message, timeoutMs: TIMEOUT_MS });
  if (result.code === 0) return result.stdout.toString('utf8');
  throw new SlipwayError(
    'invalid',
    `${keyFile} cannot sign: ${result.stderr.trim().split('\n').at(-1) ?? ''}`,
    {
      next: 'Give a private ssh key without passphrase, or load it with ssh-add and give its .pub file.',
    },
  );
}

/** Fingerprint (`SHA256:…`) of the key that made the signature, or undefined when it is not a good one. */
export async function findSshSigner(
  message: string,
  { signature, namespace }: { readonly signature: string; readonly namespace: string },
): Promise<string | undefined> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slipway-signature-'));
  try {
    const file = path.join(folder, 'signature');
    await writeFile(file, signature);
    const argv = ['ssh-keygen', '-Y', 'check-novalidate', '-n', namespace, '-s', file];
    const result = await exec(argv, { input: message, timeoutMs: TIMEOUT_MS });
    return result.code === 0 ? GOOD.exec(result.stdout.toString('utf8'))?.[1] : undefined;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
