// The app behind the cache's data plane: API, webhooks, live view and status page, with what holds for all of them.
import { Hono } from 'hono';
import { SlipwayError } from '../util/errors.ts';
import { answerError } from './error-answer.ts';
import { metricsRoute, type MetricsParts } from './metrics-route.ts';
import { pageRoutes, type PageParts } from './page-routes.ts';
import type { AppContext, AppEnv } from './peer.ts';
import { reportRoute } from './report-route.ts';
import { statusRoutes, type StatusParts } from './status-routes.ts';
import { tokenExchangeRoute, type TokenExchangeParts } from './token-exchange-route.ts';
import { tokenRoute } from './token-route.ts';
import { webhookRoute, type WebhookParts } from './webhook-route.ts';

export interface AppParts extends StatusParts, WebhookParts, PageParts, Partial<TokenExchangeParts> {
  /** Without it there is no /metrics. */
  readonly counted?: Pick<MetricsParts, 'metrics' | 'readFigures'>;
  readonly onError: (error: unknown) => void;
}

/** Nothing from elsewhere, no inline code: text of a build log can never become code in the page. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ');

export function createApp(parts: AppParts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.use(async (c, next) => {
    await next();
    setSecurityHeaders(c);
  });
  app.get('/healthz', (c) => c.json({ ok: true }));
  app.route('/', statusRoutes(parts));
  app.route('/', webhookRoute(parts));
  app.route('/', reportRoute(parts));
  app.route('/', tokenRoute(parts.tokens));
  const { registry, oidc } = parts;
  if (registry && oidc)
    app.route('/', tokenExchangeRoute({ registry, oidc, ...(parts.now && { now: parts.now }) }));
  if (parts.counted)
    app.route('/', metricsRoute({ ...parts.counted, fleet: parts.fleet, access: parts.access }));
  app.route('/', pageRoutes(parts));
  app.notFound((c) => answerError(c, notFound(), parts.onError));
  app.onError((error, c) => answerError(c, error, parts.onError));
  return app;
}

function setSecurityHeaders(c: AppContext): void {
  c.header('content-security-policy', CONTENT_SECURITY_POLICY);
  c.header('x-content-type-options', 'nosniff');
  c.header('referrer-policy', 'no-referrer');
  c.header('cross-origin-opener-policy', 'same-origin');
  c.header('cross-origin-resource-policy', 'same-origin');
  if (!c.res.headers.has('cache-control')) c.header('cache-control', 'no-store');
}

function notFound(): SlipwayError {
  return new SlipwayError('not_found', 'There is nothing at this address.', {
    next: 'The status page is at /.',
  });
}
