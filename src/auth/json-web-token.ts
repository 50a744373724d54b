// JSON Web Tokens in their compact form (RFC 7519, RFC 7515): parse, verify, sign. The verifier names the algorithm that
// it expects; the token's own word is only compared with it, so neither `none` nor a swapped algorithm gets through.
import { createHmac, sign, timingSafeEqual, verify, type KeyObject } from 'node:crypto';

export type JwtAlgorithm = 'HS256' | 'RS256' | 'ES256' | 'EdDSA';

export type JwtKey =
  | { readonly algorithm: 'HS256'; readonly secret: Uint8Array }
  | { readonly algorithm: Exclude<JwtAlgorithm, 'HS256'>; readonly key: KeyObject };

export interface Jwt {
  readonly algorithm: string;
  readonly keyId: string | undefined;
  /** As the token says; nothing of it is true before `verifyJwt`. */
  readonly claims: Readonly<Record<string, unknown>>;
  readonly signed: string;
  readonly signature: Buffer;
}

export interface JwtRules {
  /** Seconds since 1970. */
  readonly now: number;
  /** When given, `iss` must be it. */
  readonly issuer?: string;
  /** When given, one of `aud` must be among them. */
  readonly audiences?: readonly string[];
}

const LONGEST = 8 * 1024;
const CLOCK_SKEW_S = 60;
const DEEPEST = 8;

/** `undefined` for anything that is not a JWT, is too long, or nests too deep. */
export function parseJwt(text: string): Jwt | undefined {
  if (text.length > LONGEST) return undefined;
  const [, head, body, tail] = /^([\w-]+)\.([\w-]+)\.([\w-]+)$/.exec(text) ?? [];
  if (head === undefined || body === undefined || tail === undefined) return undefined;
  const header = parseObject(head);
  const claims = parseObject(body);
  // `crit` names extensions that must be understood (RFC 7515, 4.1.11); none is.
  if (header === undefined || claims === undefined || 'crit' in header) return undefined;
  const { alg, kid } = header;
  if (typeof alg !== 'string') return undefined;
  return {
    algorithm: alg,
    keyId: typeof kid === 'string' ? kid : undefined,
    claims,
    signed: `${head}.${body}`,
    signature: Buffer.from(tail, 'base64url'),
  };
}

/** Whether the signature is the key's and the times, issuer and audience hold. */
export function verifyJwt(jwt: Jwt, key: JwtKey, rules: JwtRules): boolean {
  return jwt.algorithm === key.algorithm && signatureHolds(jwt, key) && claimsHold(jwt.claims, rules);
}

export function signJwt(claims: Readonly<Record<string, unknown>>, key: JwtKey, keyId?: string): string {
  const header = { alg: key.algorithm, typ: 'JWT', ...(keyId !== undefined && { kid: keyId }) };
  const signed = `${encode(header)}.${encode(claims)}`;
  return `${signed}.${signatureOf(signed, key).toString('base64url')}`;
}

function signatureHolds(jwt: Jwt, key: JwtKey): boolean {
  if (key.algorithm === 'HS256') {
    const expected = createHmac('sha256', key.secret).update(jwt.signed).digest();
    return expected.length === jwt.signature.length && timingSafeEqual(expected, jwt.signature);
  }
  return verify(digestOf(key), Buffer.from(jwt.signed), keyInput(key), jwt.signature);
}

function signatureOf(signed: string, key: JwtKey): Buffer {
  if (key.algorithm === 'HS256') return createHmac('sha256', key.secret).update(signed).digest();
  return sign(digestOf(key), Buffer.from(signed), keyInput(key));
}

function digestOf(key: JwtKey): string | null {
  return key.algorithm === 'EdDSA' ? null : 'sha256';
}

function keyInput(key: Exclude<JwtKey, { algorithm: 'HS256' }>) {
  return key.algorithm === 'ES256' ? { key: key.key, dsaEncoding: 'ieee-p1363' as const } : { key: key.key };
}

function claimsHold(claims: Readonly<Record<string, unknown>>, rules: JwtRules): boolean {
  const { iss, aud } = claims;
  if (!timesHold(claims, rules.now)) return false;
  if (rules.issuer !== undefined && iss !== rules.issuer) return false;
  const audiences: readonly unknown[] = Array.isArray(aud) ? aud : [aud];
  return rules.audiences === undefined || rules.audiences.some((wanted) => audiences.includes(wanted));
}

/** A time that is no number spoils the token: it was meant to limit it. */
function timesHold({ exp, nbf, iat }: Readonly<Record<string, unknown>>, now: number): boolean {
  const expires = timeOf(exp, Infinity);
  const begins = Math.max(timeOf(nbf, 0), timeOf(iat, 0));
  return expires + CLOCK_SKEW_S > now && begins - CLOCK_SKEW_S <= now;
}

function timeOf(value: unknown, absent: number): number {
  if (value === undefined) return absent;
  return typeof value === 'number' ? value : Number.NaN;
}

function parseObject(part: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
    return isRecord(value) && isShallow(value, DEEPEST) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isShallow(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return true;
  return depth > 0 && Object.values(value).every((inner) => isShallow(inner, depth - 1));
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
