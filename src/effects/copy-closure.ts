// Brings a closure into a host's store: pushed from ours over the host's ssh connection, or fetched by the host itself
// from caches that it trusts. `ssh://` and not `ssh-ng://`: root's own store needs no signature that way
// (lab measurement with Nix 2.8 and 2.26).
import { SlipwayError } from '../util/errors.ts';
import { exec } from './exec.ts';
import type { Host } from './host.ts';
import { parseNixError } from './nix-error.ts';

const FEATURES = ['--extra-experimental-features', 'nix-command flakes'];
const COPY_TIMEOUT_MS = 6 * 3_600_000;

export interface CopyOptions {
  readonly signal?: AbortSignal;
  readonly onLine?: (line: string) => void;
  /** Lets the host take from its own substituters what they have, and sends the rest. */
  readonly substituteOnHost?: boolean;
  /** Copies the derivation itself, not what it builds. */
  readonly derivation?: boolean;
}

/** Copies what the host lacks of the closure; an interrupted copy goes on where complete paths end. */
export async function copyClosure(host: Host, path: string, options: CopyOptions = {}): Promise<void> {
  if (host.store === undefined) return;
  const substitute = options.substituteOnHost === true ? ['--substitute-on-destination'] : [];
  const derivation = options.derivation === true ? ['--derivation'] : [];
  const argv = ['nix', ...FEATURES, 'copy', ...derivation, '--to', host.store.url, ...substitute, path];
  const result = await exec(argv, {
    env: { NIX_SSHOPTS: host.store.sshOptions.join(' '), LC_ALL: 'C' },
    timeoutMs: COPY_TIMEOUT_MS,
    ...(options.onLine && { onStderrLine: options.onLine }),
    ...(options.signal && { signal: options.signal }),
  });
  if (result.code !== 0) throw copyFailed(host.name, path, result.stderr);
}

/** Builds on the host itself: the derivations go there with all that they need, their outputs stay there. */
export async function buildOnHost(
  host: Host,
  derivations: readonly string[],
  options: Pick<CopyOptions, 'signal' | 'onLine'> = {},
): Promise<void> {
  for (const derivation of derivations) await copyClosure(host, derivation, { ...options, derivation: true });
  const result = await host.run(['nix-store', '--realise', ...derivations], {
    timeoutMs: COPY_TIMEOUT_MS,
    ...(options.onLine && { onStderrLine: options.onLine }),
    ...(options.signal && { signal: options.signal }),
  });
  if (result.code === 0) return;
  const { message } = parseNixError(result.stderr);
  throw new SlipwayError('build_failed', `Building on ${host.name} failed: ${message}`, {
    next: `Repeat it there with: nix-store --realise ${derivations.join(' ')}`,
    facts: { host: host.name },
  });
}

/** Where a host may fetch a closure itself. Credentials are the host's own business (its netrc). */
export interface ClosureSource {
  readonly urls: readonly string[];
  readonly publicKeys: readonly string[];
}

/** Lets the host fetch the closure from caches, by default its own; what they lack is not built. */
export async function substituteClosure(
  host: Host,
  path: string,
  source: ClosureSource | undefined,
  options: Pick<CopyOptions, 'signal' | 'onLine'> = {},
): Promise<void> {
  const from = [
    ['substituters', source?.urls.join(' ')],
    ['trusted-public-keys', source?.publicKeys.join(' ')],
  ];
  const settings = [...(source === undefined ? [] : from), ['max-jobs', '0']];
  const flags = settings.flatMap(([name = '', value = '']) => ['--option', name, value]);
  const result = await host.run(['nix-store', '--realise', path, ...flags], {
    timeoutMs: COPY_TIMEOUT_MS,
    ...(options.onLine && { onStderrLine: options.onLine }),
    ...(options.signal && { signal: options.signal }),
  });
  if (result.code !== 0) throw copyFailed(host.name, path, result.stderr);
}

function copyFailed(host: string, path: string, stderr: string): SlipwayError {
  const unsigned = /lacks a (?:valid )?signature|is not signed by|signature by a trusted key/.test(stderr);
  if (unsigned)
    return new SlipwayError(
      'signature_invalid',
      `${host} does not trust ${path}: it carries no signature of a key that ${host} knows, and the login may not do without.`,
      {
        next: `Sign it (nix store sign -r -k KEY ${path}) with a key of the host's trusted-public-keys, deploy as root, or add the login to nix.settings.trusted-users.`,
        facts: { host, path },
      },
    );
  const full = /No space left on device/.test(stderr);
  return new SlipwayError('unavailable', `${path} could not be copied to ${host}: ${sayWhy(stderr)}`, {
    next: full
      ? `Free space on ${host}: nix-collect-garbage --delete-older-than 14d`
      : 'Run the deploy again; what arrived is kept.',
    facts: { host, path },
  });
}

/** The host's own word comes before that of the connection which it closed. */
function sayWhy(stderr: string): string {
  const { message } = parseNixError(stderr);
  const theirs = stderr.split('\n').findLast((line) => /^error: .*(?:No space left|cannot |not )/.test(line));
  return message === 'unexpected end-of-file' && theirs !== undefined
    ? theirs.slice('error: '.length)
    : message;
}
