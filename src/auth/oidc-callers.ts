// Job tokens of forges as callers: the token's issuer is looked up in the configuration, its signature checked with the
// issuer's keys, and its claims against the issuer's rules. A job that fits no rule is nobody.
import type { OidcProvider } from '../api/identity-config.ts';
import type { Caller } from './caller.ts';
import { JsonWebKeys } from './json-web-keys.ts';
import { parseJwt, verifyJwt, type Jwt } from './json-web-token.ts';
import { grantedScopes, identityOf, nameOf, readClaims } from './oidc-claims.ts';

/** A token without an end would be a password in a log. */
const LONGEST_LIFE_S = 24 * 3600;

interface KnownProvider {
  readonly provider: OidcProvider;
  readonly keys: JsonWebKeys;
}

export class OidcCallers {
  readonly #providers: readonly KnownProvider[];
  readonly #now: () => number;

  constructor(providers: readonly OidcProvider[], now?: () => number) {
    this.#now = now ?? Date.now;
    this.#providers = providers.map((provider) => ({
      provider,
      keys: new JsonWebKeys({ issuer: provider.issuer, ...(now && { now }) }),
    }));
  }

  /** `undefined` for every token that is not wholly good. */
  async findCaller(text: string): Promise<Caller | undefined> {
    const jwt = parseJwt(text);
    if (jwt === undefined || !isShortLived(jwt)) return undefined;
    for (const known of this.#providers) {
      if (jwt.claims['iss'] !== known.provider.issuer || !(await this.#isGood(jwt, known))) continue;
      const caller = callerOf(known.provider, jwt);
      if (caller !== undefined) return caller;
    }
    return undefined;
  }

  async #isGood(jwt: Jwt, { provider, keys }: KnownProvider): Promise<boolean> {
    const { issuer, audience } = provider;
    const rules = { now: this.#now() / 1000, issuer, audiences: [audience] };
    return (await keys.find(jwt.keyId)).some((key) => verifyJwt(jwt, key, rules));
  }
}

function callerOf(provider: OidcProvider, jwt: Jwt): Caller | undefined {
  const claims = readClaims(jwt.claims);
  if (claims === undefined) return undefined;
  const scopes = grantedScopes(provider, claims);
  if (scopes.length === 0) return undefined;
  const identity = identityOf(provider, claims);
  return { id: identity, name: nameOf(claims), scopes, identity, claims };
}

function isShortLived({ claims: { exp, iat, nbf } }: Jwt): boolean {
  const begin = typeof iat === 'number' ? iat : nbf;
  return typeof exp === 'number' && typeof begin === 'number' && exp - begin <= LONGEST_LIFE_S;
}
