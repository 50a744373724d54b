// All kinds of credentials behind one door: our opaque tokens, Attic's JWTs, and job tokens of identity providers.
// What is not understood is no caller at all, never an error: a public cache is read by whoever sends what.
import { createHash } from 'node:crypto';
import { verifyAtticToken, type AtticVerifier } from './attic-token.ts';
import { findCredential } from './authorization-header.ts';
import type { Caller, CallerFinder } from './caller.ts';
import type { TokenRegistry } from './token-registry.ts';

export interface CallersParts {
  readonly tokens: TokenRegistry;
  /** Keys for Attic's tokens; several while one is replaced. */
  readonly attic?: readonly AtticVerifier[];
  /** Job tokens of forges, see oidc-callers.ts. */
  readonly oidc?: { readonly findCaller: (jwt: string) => Promise<Caller | undefined> };
  readonly now?: () => number;
}

export function openCallers(parts: CallersParts): CallerFinder {
  const now = parts.now ?? Date.now;
  return {
    findCaller: async (authorization) => {
      const credential = findCredential(authorization);
      if (credential === undefined || !credential.includes('.'))
        return await parts.tokens.findCaller(authorization);
      return (await findByAtticToken(parts, credential, now())) ?? (await parts.oidc?.findCaller(credential));
    },
  };
}

async function findByAtticToken(
  { tokens, attic = [] }: CallersParts,
  text: string,
  now: number,
): Promise<Caller | undefined> {
  for (const verifier of attic) {
    const claims = verifyAtticToken(text, verifier, now);
    if (claims === undefined) continue;
    const { tokenId, subject, scopes } = claims;
    if (tokenId !== undefined && (await tokens.isEnded(tokenId))) return undefined;
    const id =
      tokenId ??
      `jwt-${createHash('sha256')
        .update(subject ?? text)
        .digest('hex')
        .slice(0, 12)}`;
    return { id, name: subject ?? id, scopes };
  }
  return undefined;
}
