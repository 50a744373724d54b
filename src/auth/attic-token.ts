// Attic's access tokens: JWTs signed with HS256 or RS256 whose claim `https://jwt.attic.rs/v1` lists what may be done to
// which caches (token/src/lib.rs). Tokens that atticadm made with the same key are good here, and the other way round.
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { SlipwayError } from '../util/errors.ts';
import { parseJwt, signJwt, verifyJwt, type JwtKey } from './json-web-token.ts';
import { ATTIC_PERMISSIONS, type AtticScope } from './scope.ts';

export const ATTIC_CLAIM = 'https://jwt.attic.rs/v1';

/** `^[A-Za-z0-9*][A-Za-z0-9-_+*]{0,49}$`, as Attic has it; one wrong entry spoils the token. */
const PATTERN = /^[A-Za-z0-9*][A-Za-z0-9_+*-]{0,49}$/;
const MOST_ENTRIES = 200;
const SHORTEST_SECRET = 32; // RFC 7518, 3.2: a key of the hash's size or larger

export interface AtticVerifier {
  readonly key: JwtKey;
  readonly issuer?: string;
  readonly audiences?: readonly string[];
}

export interface AtticClaims {
  readonly subject: string | undefined;
  /** `jti`: only tokens that Slipway issued have one that means something. */
  readonly tokenId: string | undefined;
  readonly scopes: readonly AtticScope[];
}

/** The key as Attic's server.toml holds it: base64 of the secret, or base64 of a PEM (or the PEM itself) for RS256. */
export function parseAtticKey(algorithm: 'HS256' | 'RS256', text: string): JwtKey {
  if (algorithm === 'HS256') {
    const secret = Buffer.from(text.trim(), 'base64');
    if (secret.length >= SHORTEST_SECRET) return { algorithm, secret };
    throw badKey(`it holds ${secret.length} bytes instead of at least ${SHORTEST_SECRET}`);
  }
  const pem = text.includes('-----BEGIN') ? text : Buffer.from(text.trim(), 'base64').toString('utf8');
  try {
    const key = pem.includes('PRIVATE KEY') ? createPrivateKey(pem) : createPublicKey(pem);
    if (key.asymmetricKeyType === 'rsa') return { algorithm, key };
  } catch (cause) {
    throw badKey('it is no RSA key in PEM', cause);
  }
  throw badKey('it is not an RSA key');
}

/** What a valid token grants; `undefined` for every other text, which then counts as no token at all. */
export function verifyAtticToken(
  text: string,
  verifier: AtticVerifier,
  nowMs: number,
): AtticClaims | undefined {
  const jwt = parseJwt(text);
  if (jwt === undefined || !verifyJwt(jwt, verifyingKey(verifier.key), { ...verifier, now: nowMs / 1000 }))
    return undefined;
  const scopes = parseAccess(jwt.claims[ATTIC_CLAIM]);
  const { sub, jti } = jwt.claims;
  return scopes && { subject: textOf(sub), tokenId: textOf(jti), scopes };
}

export interface AtticTokenRequest {
  readonly subject: string;
  readonly tokenId: string;
  readonly scopes: readonly AtticScope[];
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly expiresAt: number | undefined;
}

export function issueAtticToken(
  request: AtticTokenRequest,
  { key, issuer, audiences }: AtticVerifier,
): string {
  const caches = Object.fromEntries(
    request.scopes.map(({ pattern, permissions }) => [
      pattern,
      Object.fromEntries(permissions.map((permission) => [permission, 1])),
    ]),
  );
  const claims = {
    ...(request.expiresAt !== undefined && { exp: Math.floor(request.expiresAt / 1000) }),
    nbf: Math.floor(request.now / 1000),
    ...(issuer !== undefined && { iss: issuer }),
    ...(audiences !== undefined && { aud: audiences }),
    sub: request.subject,
    jti: request.tokenId,
    [ATTIC_CLAIM]: { caches },
  };
  return signJwt(claims, key);
}

/** A private RSA key verifies too; Node wants its public half for that. */
function verifyingKey(key: JwtKey): JwtKey {
  if (key.algorithm === 'HS256' || key.key.type === 'public') return key;
  return { ...key, key: createPublicKey(key.key) };
}

function parseAccess(claim: unknown): AtticScope[] | undefined {
  const entries = entriesOf(entriesOf(claim)?.find(([name]) => name === 'caches')?.[1]);
  if (entries === undefined || entries.length > MOST_ENTRIES) return undefined;
  const scopes = entries.map(([pattern, value]) => parseEntry(pattern, value));
  return scopes.every((scope) => scope !== undefined) ? scopes : undefined;
}

/** The values are 0 or 1, and nothing else: Attic reads `true` as a broken token. */
function parseEntry(pattern: string, value: unknown): AtticScope | undefined {
  const fields = entriesOf(value);
  if (!PATTERN.test(pattern) || fields === undefined) return undefined;
  const known = fields.filter(([name]) => ATTIC_PERMISSIONS.some((permission) => permission === name));
  if (known.some(([, flag]) => flag !== 0 && flag !== 1)) return undefined;
  const set = new Set(known.flatMap(([name, flag]) => (flag === 1 ? [name] : [])));
  return { kind: 'attic', pattern, permissions: ATTIC_PERMISSIONS.filter((one) => set.has(one)) };
}

function entriesOf(value: unknown): [string, unknown][] | undefined {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  return isObject ? Object.entries(value) : undefined;
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function badKey(why: string, cause?: unknown): SlipwayError {
  return new SlipwayError('invalid', `The key for Attic's tokens cannot be used: ${why}.`, {
    next: 'Take the value of token-hs256-secret-base64 or token-rs256-secret-base64 from the server.toml of Attic.',
    cause,
  });
}
