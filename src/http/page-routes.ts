// The status page, its files, and logging in to it.
import { Hono } from 'hono';
import type { Asset, FindAsset } from './page-assets.ts';
import type { AppContext, AppEnv } from './peer.ts';
import { readBody } from './request-body.ts';
import type { ViewAccess } from './view-access.ts';

export interface PageParts {
  readonly access: ViewAccess;
  readonly findAsset: FindAsset;
}

const MAX_FORM = 4 * 1024;

export function pageRoutes({ access, findAsset }: PageParts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get('/', async (c) => {
    if (!(await access.mayView(c))) return c.redirect('/login', 303);
    return answerAsset(c, await findAsset('index.html'));
  });
  app.get('/login', async (c) => answerAsset(c, await findAsset('login.html')));
  app.post('/login', async (c) => {
    const token = isOwnForm(c) ? await readToken(c) : '';
    if (await access.logIn(c, token)) return c.redirect('/', 303);
    return c.redirect('/login#refused', 303);
  });
  app.post('/logout', (c) => {
    if (isOwnForm(c)) access.logOut(c);
    return c.redirect('/login', 303);
  });
  app.get('/assets/:name', async (c) => answerAsset(c, await findAsset(c.req.param('name'))));
  return app;
}

/** The files hold nothing of the fleet, so they need no login. */
function answerAsset(c: AppContext, asset: Asset | undefined): Response | Promise<Response> {
  if (!asset) return c.notFound();
  c.header('etag', asset.etag);
  c.header('cache-control', 'no-cache');
  if (c.req.header('if-none-match') === asset.etag) return c.body(null, 304);
  return c.body(asset.body, 200, { 'content-type': asset.contentType });
}

/** A form of our own page: browsers say so; other programs do not need the form. */
function isOwnForm(c: AppContext): boolean {
  const site = c.req.header('sec-fetch-site');
  return site === undefined || site === 'same-origin' || site === 'none';
}

async function readToken(c: AppContext): Promise<string> {
  const form = new URLSearchParams(Buffer.from(await readBody(c, MAX_FORM)).toString('utf8'));
  return (form.get('token') ?? '').trim();
}
