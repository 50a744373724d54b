// POST /api/v1/token: a job token of a forge for a token of ours. Job tokens end after minutes, pushes may take hours;
// the new one ends after an hour, does what the job token may, and is listed and revoked like every other.
import { Hono } from 'hono';
import type { TokenExchangeAnswer } from '../api/identity-config.ts';
import { findCredential } from '../auth/authorization-header.ts';
import type { Caller } from '../auth/caller.ts';
import { formatScope } from '../auth/scope.ts';
import type { TokenRegistry } from '../auth/token-registry.ts';
import { SlipwayError } from '../util/errors.ts';
import type { AppEnv } from './peer.ts';

const LIFE_MS = 3600_000;

export interface TokenExchangeParts {
  readonly registry: TokenRegistry;
  readonly oidc: { readonly findCaller: (jwt: string) => Promise<Caller | undefined> };
  readonly now?: () => number;
}

export function tokenExchangeRoute({ registry, oidc, now = Date.now }: TokenExchangeParts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.post('/api/v1/token', async (c) => {
    const credential = findCredential(c.req.header('authorization')) ?? '';
    const caller = await oidc.findCaller(credential);
    if (caller?.identity === undefined) throw refused();
    const { name, scopes, identity, claims = {} } = caller;
    const expiresAt = now() + LIFE_MS;
    const { token } = await registry.create({ name, scopes, identity, claims, expiresAt });
    const answer: TokenExchangeAnswer = {
      token,
      expiresAt: new Date(expiresAt).toISOString(),
      identity,
      scopes: scopes.map(formatScope),
    };
    return c.json(answer);
  });
  return app;
}

function refused(): SlipwayError {
  return new SlipwayError('unauthorized', 'This is not a job token that a rule of this server speaks for.', {
    next: 'Compare issuer, audience and claims of the job with [[oidc]] in the configuration of the server.',
  });
}
