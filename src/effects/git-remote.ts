// Where a repository is and how to get in: local path, http(s) with a token, ssh with a key file.
// The token goes to git's credential helper through file descriptor 3: it is in no argv, no environment (both can
// be read in /proc) and no file, and git hands it only to the host that the helper is configured for.
import { isAbsolute, resolve } from 'node:path';
import { SlipwayError } from '../util/errors.ts';
import type { ExecResult } from './exec.ts';
import { assertPlain, type GitOptions, gitFailed, lastWords } from './git-command.ts';

export interface GitAccess {
  /** Reads the http token anew for each connection, so that a rotated token file is honoured. */
  readonly readToken?: () => Promise<string>;
  /** User name that goes with the token. Default `slipway`; most forges accept any. */
  readonly username?: string;
  readonly sshKeyFile?: string;
  readonly knownHostsFile?: string;
}

export interface GitRemote {
  readonly kind: 'local' | 'http' | 'ssh' | 'git';
  /** Absolute path or URL; never holds a secret, so it may be shown. */
  readonly url: string;
  readonly access: GitAccess;
}

/** What git needs to connect: settings before the subcommand, variables, and the secret for descriptor 3. */
export interface GitConnection {
  readonly settings: readonly string[];
  readonly options: Pick<GitOptions, 'env' | 'secret'>;
}

const CONNECT_SECONDS = 15;

/** Parses a path, URL or scp-like address; credentials inside an http URL move out of it. */
export function parseGitRemote(text: string, access: GitAccess = {}): GitRemote {
  assertPlain('repository', text);
  if (text === '') throw new SlipwayError('invalid', 'The repository is empty.');
  if (/^https?:\/\//.test(text)) return parseHttp(text, access);
  if (text.startsWith('file://'))
    return { kind: 'local', url: decodeURIComponent(new URL(text).pathname), access };
  if (/^(git\+)?ssh:\/\//.test(text)) return { kind: 'ssh', url: text, access };
  if (text.startsWith('git://')) return { kind: 'git', url: text, access };
  if (/^[a-z][a-z0-9+.-]*:(\/\/|:)/i.test(text))
    throw new SlipwayError(
      'invalid',
      `The repository ${text} has a scheme that Slipway does not fetch from.`,
      {
        next: 'Use a path, https://, ssh:// or git://.',
      },
    );
  if (!isAbsolute(text) && /^[^/]+@?[^/]*:(?!\\)/.test(text)) return { kind: 'ssh', url: text, access };
  return { kind: 'local', url: resolve(text), access };
}

/** Reads the token, if there is one, and says how git has to be called. */
export async function openGitConnection(remote: GitRemote): Promise<GitConnection> {
  if (remote.kind === 'ssh') {
    return { settings: [], options: { env: { GIT_SSH_COMMAND: sshCommand(remote.access) } } };
  }
  if (remote.kind !== 'http' || !remote.access.readToken) return { settings: [], options: {} };
  const token = (await remote.access.readToken()).trim();
  const helper = '!f() { test "$1" = get && cat <&3; }; f';
  return {
    settings: ['-c', `credential.${new URL(remote.url).origin}.helper=${helper}`],
    options: { secret: `username=${remote.access.username ?? 'slipway'}\npassword=${token}\n` },
  };
}

/** The error that fits a failed fetch, ls-remote or push; what is not about the connection is left to the caller. */
export function connectionFailed(
  remote: GitRemote,
  args: readonly string[],
  result: ExecResult,
): SlipwayError {
  const said = lastWords(result);
  const known = CAUSES.find(([pattern]) => pattern.test(result.stderr));
  if (!known) return gitFailed(args, result);
  const [, code, what, next] = known;
  return new SlipwayError(code, `${what} ${remote.url}: ${said}`, {
    next: next(remote),
    facts: { remote: remote.url },
  });
}

type Cause = readonly [
  pattern: RegExp,
  code: SlipwayError['code'],
  what: string,
  next: (remote: GitRemote) => string,
];

/** First match wins: ssh says "Could not read from remote repository" after every failure of its own. */
const CAUSES: readonly Cause[] = [
  [
    /Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED/,
    'host_key_mismatch',
    'The ssh host key is not the expected one for',
    (remote) =>
      `Check the key with its owner, then add it: ssh-keyscan ${hostOf(remote)} >> ~/.ssh/known_hosts`,
  ],
  [
    /Authentication failed|could not read (Username|Password)|Permission denied \(|The requested URL returned error: 40[13]|HTTP 40[13]/i,
    'unauthorized',
    'The credentials were refused by',
    (remote) =>
      remote.kind === 'ssh'
        ? 'Give a key that may read and push: --git-ssh-key FILE.'
        : 'Give a token that may read and push: --git-token-file FILE.',
  ],
  [
    /dubious ownership|unsafe repository/,
    'forbidden',
    'Another user owns the repository',
    () => 'Run as its owner, or use a URL (ssh:// or https://) instead of the path.',
  ],
  [
    /Could not resolve host|Connection refused|Connection timed out|Failed to connect|No route to host|Network is unreachable|Operation timed out|unable to access .*(timed out|reset)|Connection (reset|closed)/i,
    'unavailable',
    'There is no connection to',
    () => 'Check the address and the network; nothing was changed.',
  ],
  [
    /does not appear to be a git repository|[Rr]epository not found|repository '.*' (not found|does not exist)|No such file or directory|not a git repository|does not exist/,
    'repository_unusable',
    'There is no git repository at',
    () => 'Check --repository and --remote: a path or a URL of an existing git repository.',
  ],
];

function parseHttp(text: string, access: GitAccess): GitRemote {
  const url = new URL(text);
  const { username, password } = url;
  url.username = '';
  url.password = '';
  const secret = decodeURIComponent(password === '' ? username : password);
  if (secret === '' || access.readToken) return { kind: 'http', url: url.href, access };
  const name = password === '' ? {} : { username: decodeURIComponent(username) };
  return { kind: 'http', url: url.href, access: { ...access, ...name, readToken: async () => secret } };
}

function sshCommand(access: GitAccess): string {
  const words = ['ssh', '-o', 'BatchMode=yes', '-o', `ConnectTimeout=${CONNECT_SECONDS}`];
  words.push('-o', 'ServerAliveInterval=10', '-o', 'ServerAliveCountMax=3');
  if (access.sshKeyFile !== undefined)
    words.push('-i', resolve(access.sshKeyFile), '-o', 'IdentitiesOnly=yes');
  if (access.knownHostsFile !== undefined)
    words.push(
      '-o',
      `UserKnownHostsFile=${resolve(access.knownHostsFile)}`,
      '-o',
      'StrictHostKeyChecking=yes',
    );
  return words.map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`).join(' ');
}

function hostOf(remote: GitRemote): string {
  return (
    /^(?:git\+)?ssh:\/\/(?:[^@/]*@)?([^:/]+)/.exec(remote.url)?.[1] ??
    /^(?:[^@]*@)?([^:]+):/.exec(remote.url)?.[1] ??
    remote.url
  );
}
