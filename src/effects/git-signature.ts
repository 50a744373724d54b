// Signatures on git commits: made by `git commit-tree -S` with an ssh key or by GPG, checked by `git verify-commit`.
// comin and plain git understand both; Slipway's own hosts believe the signed manifest.
import { resolve } from 'node:path';
import { SlipwayError } from '../util/errors.ts';
import { lastWords, runGit } from './git-command.ts';

export type CommitSigning =
  /** A private key file, or a public one whose private half an agent holds. */
  | { readonly format: 'ssh'; readonly keyFile: string }
  /** A key of the caller's GPG keyring. */
  | { readonly format: 'openpgp'; readonly keyId: string };

/** Settings and flags that make `git commit-tree` sign. */
export function signingArguments(signing: CommitSigning | undefined): {
  readonly settings: readonly string[];
  readonly flags: readonly string[];
} {
  if (signing === undefined) return { settings: [], flags: [] };
  const key = signing.format === 'ssh' ? resolve(signing.keyFile) : signing.keyId;
  const settings = [`gpg.format=${signing.format}`, `user.signingKey=${key}`];
  return { settings: settings.flatMap((setting) => ['-c', setting]), flags: ['-S'] };
}

/**
 * Checks that a commit carries a good ssh signature by a key of the file (`ssh-keygen`'s ALLOWED SIGNERS). Anything
 * else, a missing signature included, is `signature_invalid`.
 */
export async function assertCommitSigned(
  repository: string,
  commit: string,
  allowedSignersFile: string,
): Promise<void> {
  const setting = `gpg.ssh.allowedSignersFile=${resolve(allowedSignersFile)}`;
  const settings = ['-c', 'gpg.format=ssh', '-c', setting];
  const result = await runGit(repository, [...settings, 'verify-commit', commit]);
  if (result.code === 0) return;
  const said = result.stderr.trim() === '' ? 'it carries no signature' : lastWords(result);
  throw new SlipwayError(
    'signature_invalid',
    `The commit ${commit.slice(0, 12)} is not signed by an allowed signer: ${said}`,
    { next: 'Find out who wrote it. To take it all the same, leave out --allowed-signers once.' },
  );
}
