// GET /api/v1/token: what the server knows of the token that asks, so that `slipway login` can tell a wrong one at once.
import { Hono } from 'hono';
import type { TokenAnswer } from '../api/identity-config.ts';
import type { CallerFinder } from '../auth/caller.ts';
import { formatScope } from '../auth/scope.ts';
import { SlipwayError } from '../util/errors.ts';
import type { AppEnv } from './peer.ts';

export function tokenRoute(tokens: CallerFinder): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get('/api/v1/token', async (c) => {
    const caller = await tokens.findCaller(c.req.header('authorization'));
    if (caller === undefined) throw unknownToken();
    const { name, identity, scopes } = caller;
    const answer: TokenAnswer = {
      name,
      ...(identity !== undefined && { identity }),
      scopes: scopes.map(formatScope),
    };
    return c.json(answer);
  });
  return app;
}

/** The same words for a token that never was, has ended or was revoked. */
function unknownToken(): SlipwayError {
  return new SlipwayError('unauthorized', 'This server does not know the token, or not any more.', {
    next: 'See which there are on the server (slipway token list), or make one: slipway token create --write main <name>.',
  });
}
