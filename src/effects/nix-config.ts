// The settings of a Nix process, as text for NIX_CONFIG (nix.conf syntax; read by every version since 2.3, and by the
// child processes of Nix too). What the caller's environment sets stays; ours comes after it.
import { SlipwayError } from '../util/errors.ts';

export interface NixSettings {
  /** Cache URLs to try besides the configured ones, with their public keys (`name:base64`). */
  readonly substituters?: readonly string[];
  readonly trustedPublicKeys?: readonly string[];
  /** Only the given substituters, none of the configured ones: an empty list means offline. */
  readonly onlySubstituters?: readonly string[];
  /** Credentials for http caches; the file's path, never its content. */
  readonly netrcFile?: string;
  /** Anything else, by its nix.conf name. */
  readonly extra?: Readonly<Record<string, string>>;
}

/** The value of NIX_CONFIG: `inherited` (the caller's), then our settings. */
export function formatNixConfig(settings: NixSettings, inherited = ''): string {
  const lines = ['extra-experimental-features = nix-command flakes', 'warn-dirty = false'];
  const list = (name: string, values: readonly string[] | undefined): void => {
    if (values !== undefined) lines.push(`${name} = ${values.map(plain).join(' ')}`.trimEnd());
  };
  list('substituters', settings.onlySubstituters);
  list('extra-substituters', settings.substituters);
  list('extra-trusted-public-keys', settings.trustedPublicKeys);
  if (settings.netrcFile !== undefined) lines.push(`netrc-file = ${plain(settings.netrcFile)}`);
  for (const [name, value] of Object.entries(settings.extra ?? {})) lines.push(`${name} = ${plain(value)}`);
  return [inherited.trimEnd(), ...lines].filter((line) => line !== '').join('\n') + '\n';
}

/** nix.conf has no quoting: a line break would start a setting of its own, a `#` a comment. */
function plain(value: string): string {
  if (/[\n\r#]/.test(value))
    throw new SlipwayError('invalid', `A Nix setting cannot hold a line break or "#": ${value}`);
  return value;
}
