// The Authorization header as our clients send it: `Bearer <token>`, or `Basic` with the token as password.
// Basic is what Nix sends from a netrc file, on every request and without being asked (RFC 7617).
import { parseToken, type TokenText } from './token.ts';

/** JWTs of identity providers have 1 to 3 KB, a third more in Basic. */
const LONGEST = 12 * 1024;

/** What stands where a token stands, of whatever kind; `undefined` when there is nothing. */
export function findCredential(header: string | undefined): string | undefined {
  if (header === undefined || header.length > LONGEST) return undefined;
  const [, scheme = '', value = ''] = /^(\w+) +(\S+)$/.exec(header) ?? [];
  if (scheme.toLowerCase() === 'bearer') return value;
  return scheme.toLowerCase() === 'basic' ? passwordOf(value) : undefined;
}

/** The token in the header; `undefined` when there is none or it is not one of ours. */
export function parseAuthorization(header: string | undefined): TokenText | undefined {
  const credential = findCredential(header);
  return credential === undefined ? undefined : parseToken(credential);
}

/** The challenge of every 401: Basic, because that is what Nix and browsers can answer. */
export const AUTHENTICATE_CHALLENGE = 'Basic realm="slipway"';

function passwordOf(credentials: string): string {
  const text = Buffer.from(credentials, 'base64').toString('utf8');
  return text.slice(text.indexOf(':') + 1);
}
