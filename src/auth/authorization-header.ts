// The Authorization header as our clients send it: `Bearer <token>`, or `Basic` with the token as password.
// Basic is what Nix sends from a netrc file, on every request and without being asked (RFC 7617).
import { parseToken, type TokenText } from './token.ts';

const LONGEST = 4096;

/** The token in the header; `undefined` when there is none or it is not one of ours. */
export function parseAuthorization(header: string | undefined): TokenText | undefined {
  if (header === undefined || header.length > LONGEST) return undefined;
  const [, scheme = '', value = ''] = /^(\w+) +(\S+)$/.exec(header) ?? [];
  if (scheme.toLowerCase() === 'bearer') return parseToken(value);
  return scheme.toLowerCase() === 'basic' ? parseToken(passwordOf(value)) : undefined;
}

/** The challenge of every 401: Basic, because that is what Nix and browsers can answer. */
export const AUTHENTICATE_CHALLENGE = 'Basic realm="slipway"';

function passwordOf(credentials: string): string {
  const text = Buffer.from(credentials, 'base64').toString('utf8');
  return text.slice(text.indexOf(':') + 1);
}
