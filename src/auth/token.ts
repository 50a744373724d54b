// Opaque access tokens: `slw_<id>_<secret>`, id 10 and secret 43 characters of base62-like text.
// The secret is 256 random bits, so a plain SHA-256 of it is safe to store: there is nothing to guess.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

const TOKEN = /^slw_([a-z0-9]{10})_([A-Za-z0-9-]{43})$/;
const ID_CHARACTERS = '0123456789abcdefghijklmnopqrstuvwxyz';

export interface TokenText {
  /** Public: names the token in lists, logs and provenance. */
  readonly id: string;
  /** Never stored, never logged. */
  readonly secret: string;
}

export function generateToken(): TokenText {
  // base64url with `_` mapped away keeps the separator unique; the few lost bits do not matter of 256.
  const secret = randomBytes(32).toString('base64url').replaceAll('_', '-');
  const id = Array.from(randomBytes(10), (byte) => ID_CHARACTERS[byte % 36]).join('');
  return { id, secret };
}

export function formatToken({ id, secret }: TokenText): string {
  return `slw_${id}_${secret}`;
}

/** `undefined` for anything that is not a token of ours. */
export function parseToken(text: string): TokenText | undefined {
  const [, id, secret] = TOKEN.exec(text) ?? [];
  return id === undefined || secret === undefined ? undefined : { id, secret };
}

export function hashSecret(secret: string): Uint8Array {
  return createHash('sha256').update(secret).digest();
}

/** Compares in constant time. */
export function secretMatches(secret: string, hash: Uint8Array): boolean {
  const offered = hashSecret(secret);
  return offered.length === hash.length && timingSafeEqual(offered, hash);
}
