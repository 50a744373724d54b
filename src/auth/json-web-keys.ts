// The public keys of an identity provider: OpenID Connect Discovery, then the JWK set (RFC 7517). Fetched when they are
// needed, kept for ten minutes, used for a day longer while the provider is down. Every answer has a limit and a
// deadline, redirects are refused, and forged key ids make no more than one request in half a minute.
import { createPublicKey, type KeyObject } from 'node:crypto';
import { SlipwayError } from '../util/errors.ts';
import { deadline } from '../util/deadline.ts';
import type { JwtKey } from './json-web-token.ts';

const FRESH_MS = 10 * 60_000;
const STALE_MS = 24 * 3600_000;
const RETRY_MS = 30_000;
const FETCH_MS = 5_000;
const LARGEST = 256 * 1024;
const MOST_KEYS = 100;
const SMALLEST_RSA_BITS = 2048;

export interface NamedKey {
  readonly keyId: string | undefined;
  readonly key: JwtKey;
}

export interface JsonWebKeysOptions {
  readonly issuer: string;
  /** Milliseconds; by default of a clock that is never set. */
  readonly now?: () => number;
}

const monotonic = (): number => performance.now();

export class JsonWebKeys {
  readonly #issuer: string;
  readonly #now: () => number;
  #keys: readonly NamedKey[] = [];
  #fetchedAt = -Infinity;
  #triedAt = -Infinity;
  #fetching: Promise<void> | undefined;

  constructor({ issuer, now = monotonic }: JsonWebKeysOptions) {
    this.#issuer = issuer;
    this.#now = now;
  }

  /** The keys that a token with this key id may be signed with; none when the provider has none or cannot be asked. */
  async find(keyId: string | undefined): Promise<readonly JwtKey[]> {
    const known = this.#matching(keyId);
    const age = this.#now() - this.#fetchedAt;
    if (age > FRESH_MS || known.length === 0) await this.#refresh();
    if (this.#now() - this.#fetchedAt > STALE_MS) return [];
    return this.#matching(keyId).map(({ key }) => key);
  }

  #matching(keyId: string | undefined): readonly NamedKey[] {
    return keyId === undefined ? this.#keys : this.#keys.filter((key) => key.keyId === keyId);
  }

  async #refresh(): Promise<void> {
    if (this.#fetching === undefined && this.#now() - this.#triedAt >= RETRY_MS) {
      this.#triedAt = this.#now();
      this.#fetching = this.#fetch().finally(() => (this.#fetching = undefined));
    }
    // A provider that cannot be asked knows nobody: the keys of before serve on, and then nothing does.
    await this.#fetching?.catch(() => undefined);
  }

  async #fetch(): Promise<void> {
    const discovery = await fetchObject(
      `${this.#issuer.replace(/\/$/, '')}/.well-known/openid-configuration`,
    );
    const { issuer, jwks_uri: address } = discovery;
    if (issuer !== this.#issuer || typeof address !== 'string' || !isSafeAddress(address, this.#issuer))
      throw new SlipwayError('unavailable', `What ${this.#issuer} says of itself does not hold.`);
    const { keys } = await fetchObject(address);
    if (!Array.isArray(keys)) throw new SlipwayError('unavailable', `${address} is not a set of keys.`);
    this.#keys = keys.slice(0, MOST_KEYS).flatMap(parseJwk);
    this.#fetchedAt = this.#now();
  }
}

async function fetchObject(url: string): Promise<Record<string, unknown>> {
  const response = await fetch(url, {
    redirect: 'error',
    signal: deadline(FETCH_MS),
    headers: { accept: 'application/json' },
  });
  if (!response.ok) throw new SlipwayError('unavailable', `${url} answered ${response.status}.`);
  const value: unknown = JSON.parse(await readLimited(response, url));
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  throw new SlipwayError('unavailable', `${url} did not answer with an object.`);
}

async function readLimited(response: Response, url: string): Promise<string> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of response.body ?? []) {
    size += piece.length;
    if (size > LARGEST)
      throw new SlipwayError('too_large', `${url} answered with more than ${LARGEST} bytes.`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

/** Never less protected than the issuer itself. */
function isSafeAddress(address: string, issuer: string): boolean {
  if (!URL.canParse(address)) return false;
  const { protocol, origin } = new URL(address);
  return protocol === 'https:' || (protocol === 'http:' && origin === new URL(issuer).origin);
}

function parseJwk(jwk: unknown): NamedKey[] {
  if (typeof jwk !== 'object' || jwk === null) return [];
  const { kid, use, ...rest } = jwk as Record<string, unknown>;
  if (use !== undefined && use !== 'sig') return [];
  const key = keyOf(rest);
  return key === undefined ? [] : [{ keyId: typeof kid === 'string' ? kid : undefined, key }];
}

function keyOf(jwk: Record<string, unknown>): JwtKey | undefined {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: jwk, format: 'jwk' });
  } catch {
    return undefined; // of a kind that is not known here, which is no reason to refuse the others
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === 'rsa' && (details?.modulusLength ?? 0) >= SMALLEST_RSA_BITS)
    return { algorithm: 'RS256', key };
  if (type === 'ec' && details?.namedCurve === 'prime256v1') return { algorithm: 'ES256', key };
  return type === 'ed25519' ? { algorithm: 'EdDSA', key } : undefined;
}
