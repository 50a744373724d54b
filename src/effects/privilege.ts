// How a login becomes root on a host: it is root, or by sudo, doas or run0. A password goes in on stdin, never into argv.
// doas and run0 take none from a pipe: they must be set up to ask for none.
import { randomBytes } from 'node:crypto';
import { SlipwayError } from '../util/errors.ts';

export interface Privilege {
  /** Words in front of the command; none for root. */
  readonly words: readonly string[];
  /** For sudo: the line that it reads from stdin first. */
  readonly password?: string;
}

export const ROOT: Privilege = { words: [] };

/** For `sh -s`: prints the first way that works without a password, `password` when only one is missing, or `none`. */
export const PRIVILEGE_PROBE = `
[ "$(id -u)" != 0 ] || { echo root; exit; }
for way in 'sudo -n --' 'doas -n' 'run0 --no-ask-password --'; do
  command -v "\${way%% *}" >/dev/null 2>&1 && $way true >/dev/null 2>&1 </dev/null && { echo "$way"; exit; }
done
if command -v sudo >/dev/null 2>&1; then echo password; else echo none; fi
`;

/** What the probe's answer means; `password` is what the caller has, if it was asked for. */
export function privilegeFromProbe(said: string, login: Login): Privilege {
  const way = said.trim();
  if (way === 'root') return ROOT;
  if (/^(sudo|doas|run0) /.test(way)) return { words: way.split(' ') };
  if (way === 'password' && login.password !== undefined) return passwordSudo(login.password);
  throw noPrivilege(login, way === 'password');
}

/** sudo with a password. `-k`: it asks each time, so what is sent is always what is read. */
export function passwordSudo(password: string): Privilege {
  return { words: ['sudo', '-k', '-S', '-p', '', '--'], password: password.split(/[\r\n]/, 1)[0] ?? '' };
}

export interface Login {
  readonly host: string;
  readonly user: string;
  readonly password?: string | undefined;
}

function noPrivilege({ host, user }: Login, passwordMissing: boolean): SlipwayError {
  return new SlipwayError('forbidden', `${user} cannot become root on ${host}.`, {
    next: passwordMissing
      ? `Add --ask-sudo-password, or let ${user} use sudo without one (security.sudo.extraRules, NOPASSWD).`
      : `Deploy as root, or give ${user} sudo, doas or run0 on ${host}.`,
    facts: { host, user },
  });
}

export function wrongPassword({ host, user }: Login, said: string): SlipwayError {
  const last = said.trim().split('\n').at(-1) ?? '';
  return new SlipwayError('forbidden', `sudo on ${host} does not let ${user} become root: ${last}`, {
    next: `Try it by hand: ssh ${user}@${host} sudo -v`,
    facts: { host, user },
  });
}

export interface RemoteCommand {
  readonly argv: readonly string[];
  readonly input: Uint8Array | string | undefined;
}

/**
 * The command as root. With a password, stdin begins with it, and with a mark: whatever sudo left unread up to the mark
 * is thrown away, so the password can never become the command's input.
 */
export function asRoot(privilege: Privilege, command: RemoteCommand): RemoteCommand {
  const { words, password } = privilege;
  if (password === undefined) return { ...command, argv: [...words, ...command.argv] };
  const mark = `mark-${randomBytes(8).toString('hex')}`;
  const skip = 'm=$1; shift; while IFS= read -r l && [ "$l" != "$m" ]; do :; done; exec "$@"';
  const head = Buffer.from(`${password}\n${mark}\n`);
  return {
    argv: [...words, 'sh', '-c', skip, 'sh', mark, ...command.argv],
    input: Buffer.concat([head, Buffer.from(command.input ?? '')]),
  };
}
