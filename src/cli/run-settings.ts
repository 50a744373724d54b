// The options that all pipeline commands share, and what they mean for a run.
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import type { CommitSigning } from '../effects/git-signature.ts';
import { defaultEvaluationLimits } from '../pipeline/evaluate-hosts.ts';
import type { CacheSetting } from '../pipeline/plan-caches.ts';
import { resolveRepositories } from '../pipeline/resolve-repositories.ts';
import type { RunGoal, RunOptions } from '../pipeline/run-options.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';

export interface RunFlags {
  readonly repository: string;
  readonly sourceBranch?: string;
  readonly commit?: string;
  readonly remote?: string;
  readonly gitTokenFile?: string;
  readonly gitSshKey?: string;
  readonly signingKey?: string;
  readonly trustedKey?: readonly string[];
  readonly rekeyIdentity?: string;
  readonly approveGrants?: string;
  readonly commitSigningKey?: string;
  readonly commitSigningGpg?: string;
  readonly allowedSigners?: string;
  readonly rollbackTo?: string;
  readonly testing?: string;
  readonly cache?: readonly string[];
  readonly cacheTokenFile?: string;
  readonly cachePublicKey?: readonly string[];
  readonly server?: string;
  readonly deploy?: boolean;
  readonly allowDirty?: boolean;
  readonly allowRollback?: boolean;
  readonly stateDir?: string;
  readonly evalJobs?: string;
  readonly evalMemory?: string;
  readonly logs?: boolean;
  readonly json?: boolean;
}

/** Where the source is, how it is evaluated, and what is printed. */
export function addSourceOptions(command: Command): Command {
  return command
    .option('--repository <path|url>', 'the fleet: a checkout, a bare repository or a URL', '.')
    .option('--source-branch <name>', 'branch to release from (default: what is checked out, else main)')
    .option('--commit <id>', 'a commit of that branch (default: its tip)')
    .option('--remote <path|url>', 'where releases are published (default: origin of a checkout)')
    .option('--git-token-file <file>', 'token for https repositories')
    .option('--git-ssh-key <file>', 'private key for ssh repositories')
    .option('--allow-dirty', 'leave changes that are in no commit out, instead of refusing them')
    .option('--state-dir <folder>', 'where mirrors are kept (default: ~/.cache/slipway)')
    .option('--eval-jobs <n>', 'hosts evaluated at a time', '2')
    .option(
      '--eval-memory <MiB>',
      'memory for all evaluations together (default: two thirds of what is free)',
    )
    .option('--logs', 'show every line of the build logs')
    .option('--json', 'print one event a line; the last is run-finished');
}

export function addSecretOptions(command: Command): Command {
  return command.option('--rekey-identity <file>', 'private key that re-keys secrets for the hosts');
}

export function addReleaseOptions(command: Command): Command {
  return command
    .option('--signing-key <file>', 'secret key that signs releases (name:base64, as nix makes them)')
    .option('--trusted-key <key...>', 'public keys of earlier releases that are continued')
    .option('--cache <url...>', 'caches to push to, besides those that the flake names')
    .option('--cache-token-file <file>', 'token that may write to them')
    .option('--cache-public-key <key...>', 'keys that the caches sign with, for the manifest')
    .option('--server <url>', 'the Slipway server that slipway:<cache> in the flake means')
    .option('--no-deploy', 'publish, but leave the hosts alone')
    .option('--approve-grants <digest>', 'let hosts read what a refused run listed under this digest')
    .option('--commit-signing-key <file>', 'ssh key that signs release commits, for comin and git users')
    .option('--commit-signing-gpg <key>', 'the same by a key of the GPG keyring')
    .option('--allowed-signers <file>', 'who must have signed the release that this one goes on top of')
    .option('--rollback-to <serial>', 'make a new release of what release <serial> was made from')
    .option('--testing <host>', 'release for one host alone, to the branch <release>-testing-<host>')
    .option('--allow-rollback', 'release a source that does not contain the last released one');
}

/** Reads the flags; what they name must exist. */
export async function readRunOptions(flags: RunFlags, goal: RunGoal, io: CliIo): Promise<RunOptions> {
  const path = (name: string): string => resolve(io.cwd, name);
  const isUrl = /^[a-z][a-z0-9+.-]*:\/\/|^[^/]+:/i;
  const repository = (text: string): string => (isUrl.test(text) ? text : path(text));
  const { gitTokenFile, gitSshKey } = flags;
  const repositories = await resolveRepositories({
    repository: repository(flags.repository),
    ...(flags.remote !== undefined && { remote: repository(flags.remote) }),
    ...(flags.sourceBranch !== undefined && { sourceBranch: flags.sourceBranch }),
    allowDirty: flags.allowDirty === true,
    access: {
      ...(gitTokenFile !== undefined && {
        readToken: async () => await readFile(path(gitTokenFile), 'utf8'),
      }),
      ...(gitSshKey !== undefined && { sshKeyFile: path(gitSshKey) }),
    },
  });
  return {
    ...repositories,
    goal,
    stateDirectory: flags.stateDir === undefined ? defaultStateDirectory(io) : path(flags.stateDir),
    reason: io.env['CI'] === undefined ? 'manual' : 'ci',
    limits: readLimits(flags),
    caches: readCaches(flags, path),
    allowRollback: flags.allowRollback === true,
    ...(flags.commit !== undefined && { sourceCommit: flags.commit }),
    ...(flags.server !== undefined && { serverUrl: flags.server }),
    ...readReleaseOptions(flags, path),
  };
}

/** What the options of addReleaseOptions and addSecretOptions say. */
function readReleaseOptions(flags: RunFlags, path: (name: string) => string): Partial<RunOptions> {
  const { signingKey, rekeyIdentity, trustedKey, approveGrants, allowedSigners, rollbackTo, testing } = flags;
  const commitSigning = readCommitSigning(flags, path);
  return {
    ...(commitSigning && { commitSigning }),
    ...(allowedSigners !== undefined && { allowedSignersFile: path(allowedSigners) }),
    ...(rollbackTo !== undefined && { rollbackTo: positive(rollbackTo, '--rollback-to') }),
    ...(testing !== undefined && { testing }),
    ...(trustedKey !== undefined && { trustedKeys: trustedKey }),
    ...(signingKey !== undefined && { signingKeyFile: path(signingKey) }),
    ...(rekeyIdentity !== undefined && { rekeyIdentityFile: path(rekeyIdentity) }),
    ...(approveGrants !== undefined && { approvedGrants: approveGrants }),
  };
}

function readCommitSigning(flags: RunFlags, path: (name: string) => string): CommitSigning | undefined {
  const { commitSigningKey, commitSigningGpg } = flags;
  if (commitSigningKey !== undefined && commitSigningGpg !== undefined) {
    throw new SlipwayError('invalid', 'A commit carries one signature.', {
      next: 'Give --commit-signing-key or --commit-signing-gpg, not both.',
    });
  }
  if (commitSigningGpg !== undefined) return { format: 'openpgp', keyId: commitSigningGpg };
  return commitSigningKey === undefined ? undefined : { format: 'ssh', keyFile: path(commitSigningKey) };
}

function readCaches(flags: RunFlags, path: (name: string) => string): CacheSetting[] {
  const { cacheTokenFile } = flags;
  const token = cacheTokenFile !== undefined && {
    readToken: async (): Promise<string> => await readFile(path(cacheTokenFile), 'utf8'),
  };
  return (flags.cache ?? []).map((url) => ({ url, publicKeys: flags.cachePublicKey ?? [], ...token }));
}

function readLimits(flags: RunFlags): RunOptions['limits'] & object {
  const limits = defaultEvaluationLimits();
  const memory =
    flags.evalMemory === undefined
      ? limits.memory
      : positive(flags.evalMemory, '--eval-memory') * 1024 * 1024;
  return { ...limits, memory, jobs: positive(flags.evalJobs ?? '2', '--eval-jobs') };
}

function positive(text: string, option: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new SlipwayError('invalid', `${option} wants a whole number above 0, not "${text}".`);
}

function defaultStateDirectory(io: CliIo): string {
  const home = io.env['HOME'] ?? '/root';
  return join(io.env['XDG_CACHE_HOME'] ?? join(home, '.cache'), 'slipway');
}
