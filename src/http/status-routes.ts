// The JSON API over the fleet's state: what there is, one run, its events, and starting one.
import { Hono } from 'hono';
import type { RunAnswer } from '../api/fleet-status.ts';
import { runRequest } from '../api/fleet-status.ts';
import { isAdmin } from '../auth/caller.ts';
import type { Fleet } from '../fleet/fleet.ts';
import { SlipwayError } from '../util/errors.ts';
import { openLiveStream } from './live-stream.ts';
import type { AppContext, AppEnv } from './peer.ts';
import { readJson } from './request-body.ts';
import type { CallerFinder, ViewAccess } from './view-access.ts';

export interface StatusParts {
  readonly fleet: Fleet;
  readonly tokens: CallerFinder;
  readonly access: ViewAccess;
  readonly closing: AbortSignal;
  readonly heartbeatMs?: number;
}

const MAX_PAGE = 1_000;

export function statusRoutes(parts: StatusParts): Hono<AppEnv> {
  const { fleet, access } = parts;
  const app = new Hono<AppEnv>();
  app.get('/api/v1/status', async (c) => {
    await access.assertMayView(c);
    return c.json(await fleet.readStatus());
  });
  app.get('/api/v1/runs/:id', async (c) => {
    await access.assertMayView(c);
    return c.json(await fleet.getRun(c.req.param('id')));
  });
  app.get('/api/v1/runs/:id/events', async (c) => {
    await access.assertMayView(c);
    const limit = Math.min(countOf(c.req.query('limit')) ?? MAX_PAGE, MAX_PAGE);
    return c.json(await fleet.listRunEvents(c.req.param('id'), countOf(c.req.query('after')) ?? 0, limit));
  });
  app.get('/events', async (c) => {
    await access.assertMayView(c);
    return answerLive(c, parts);
  });
  app.post('/api/v1/runs', async (c) => {
    await assertAdmin(c, parts.tokens);
    const answer = await startRun(fleet, await readJson(c, runRequest, 16 * 1024));
    return c.json(answer, answer.decision === 'ignore' ? 200 : 202);
  });
  return app;
}

function answerLive(c: AppContext, parts: StatusParts): Response {
  const stream = openLiveStream(parts.fleet, {
    after: countOf(c.req.header('last-event-id') ?? c.req.query('after')),
    heartbeatMs: parts.heartbeatMs ?? 15_000,
    closing: parts.closing,
  });
  c.header('content-type', 'text/event-stream; charset=utf-8');
  c.header('cache-control', 'no-store');
  c.header('x-accel-buffering', 'no'); // nginx would hold the stream back
  return c.body(stream);
}

async function assertAdmin(c: AppContext, tokens: CallerFinder): Promise<void> {
  const caller = await tokens.findCaller(c.req.header('authorization'));
  if (isAdmin(caller)) return;
  throw new SlipwayError(
    caller === undefined ? 'unauthorized' : 'forbidden',
    'Starting a run needs an admin token.',
    { next: 'Send the token from keys/admin.token as "Authorization: Bearer …".' },
  );
}

/** Without a commit, the branch's head as it was last seen. */
async function startRun(
  fleet: Fleet,
  request: { readonly repository: string; readonly commit?: string | undefined },
): Promise<RunAnswer> {
  const repository = fleet.getRepository(request.repository);
  const commit = request.commit ?? repository.head;
  if (commit !== undefined) {
    return await fleet.hearOfCommit({
      repository: repository.name,
      branch: repository.branch,
      commit,
      trigger: 'manual',
    });
  }
  throw new SlipwayError('unavailable', `The branch ${repository.branch} has not been read yet.`, {
    next: repository.problem?.message ?? 'Try again in a moment, or name the commit.',
  });
}

/** A count in a query or header; undefined for anything else. */
function countOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}
