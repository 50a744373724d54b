// `FLAKE#node.profile`, deploy-rs' way to say what is meant; `FLAKE#host` is the same for a Slipway host. A part with
// a dot in it stands in quotes.
import { SlipwayError } from '../util/errors.ts';

export interface DeployTargetName {
  readonly flake: string;
  readonly node: string | undefined;
  readonly profile: string | undefined;
}

const PART = String.raw`"([^"\\$]*)"|([A-Za-z0-9_][A-Za-z0-9_'-]*)`;
const FRAGMENT = new RegExp(`^(?:${PART})(?:\\.(?:${PART}))?$`);

/** Without a `#` all of it is the flake. */
export function parseDeployTarget(text: string): DeployTargetName {
  const at = text.indexOf('#');
  const flake = at < 0 ? text : text.slice(0, at);
  const fragment = at < 0 ? '' : text.slice(at + 1).trim();
  return { flake, ...parseFragment(fragment) };
}

/** `node`, `node.profile`, `"a.b".profile`. */
export function parseFragment(fragment: string): Pick<DeployTargetName, 'node' | 'profile'> {
  if (fragment === '') return { node: undefined, profile: undefined };
  const match = FRAGMENT.exec(fragment);
  const node = match?.[1] ?? match?.[2];
  if (match !== null && node !== undefined && node !== '') return { node, profile: match[3] ?? match[4] };
  const tooLong = fragment.split('.').length > 2;
  throw new SlipwayError('invalid', `"${fragment}" names no node and profile.`, {
    next: tooLong
      ? 'Put a name with a dot in it in quotes: \'.#"example.com".system\''
      : 'Write .#node or .#node.profile.',
  });
}
