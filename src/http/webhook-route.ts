// POST /hooks/{forge}/{repository}: what a forge tells about pushes. The signature is the only credential.
import { Hono } from 'hono';
import type { Fleet } from '../fleet/fleet.ts';
import { parseWebhookNews } from '../fleet/webhook-news.ts';
import { FORGES, verifyWebhook, type Forge } from '../fleet/webhook-signature.ts';
import { SlipwayError } from '../util/errors.ts';
import type { AppEnv } from './peer.ts';
import { readBody } from './request-body.ts';

export interface WebhookParts {
  readonly fleet: Fleet;
  /** Reads the repository's secrets anew for each delivery, so that a rotated file is honoured. */
  readonly readWebhookSecrets: (repository: string) => Promise<readonly string[]>;
  readonly now?: () => number;
}

/** GitHub sends at most 25 MB, but only for pushes that no person makes; the poller sees those too. */
const MAX_BODY = 8 * 1024 * 1024;
/** Bodies in memory at once, of whoever sends them; more are refused, and the poller sees what they would have told. */
const MAX_BODIES = 16;

export function webhookRoute(parts: WebhookParts): Hono<AppEnv> {
  const { fleet } = parts;
  let bodies = 0;
  const app = new Hono<AppEnv>();
  app.post('/hooks/:forge/:repository', async (c) => {
    const forge = parseForge(c.req.param('forge'));
    const repository = fleet.getRepository(c.req.param('repository'));
    const secrets = await parts.readWebhookSecrets(repository.name);
    if (bodies >= MAX_BODIES) throw busy();
    bodies++;
    const body = await readBody(c, MAX_BODY).finally(() => bodies--);
    const delivery = { forge, header: (name: string) => c.req.header(name), body };
    verifyWebhook(delivery, secrets, (parts.now ?? Date.now)());
    const news = parseWebhookNews(delivery);
    if (news.kind === 'ignored') return c.json({ decision: 'ignore', reason: news.reason });
    const answer = await fleet.hearOfCommit({ ...news, repository: repository.name, trigger: 'webhook' });
    return c.json(answer, answer.decision === 'ignore' ? 200 : 202);
  });
  return app;
}

function busy(): SlipwayError {
  return new SlipwayError('unavailable', 'Too many webhook deliveries are arriving at once.', {
    next: 'Deliver it again; the next look at the branch sees the push, too.',
  });
}

function parseForge(text: string): Forge {
  const forge = FORGES.find((name) => name === text);
  if (forge !== undefined) return forge;
  throw new SlipwayError('not_found', 'There is no webhook address of that kind.', {
    next: `Use /hooks/<forge>/<repository> with one of ${FORGES.join(', ')}; Gitea speaks as forgejo.`,
  });
}
