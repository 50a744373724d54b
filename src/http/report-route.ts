// POST /api/agent/v1/report: a host's agent tells how it is. The token must be scoped to that very host.
import { Hono } from 'hono';
import { agentReport } from '../api/agent-report.ts';
import { isAgentOf } from '../auth/caller.ts';
import type { Fleet } from '../fleet/fleet.ts';
import { SlipwayError } from '../util/errors.ts';
import type { AppEnv } from './peer.ts';
import { readJson } from './request-body.ts';
import type { CallerFinder } from './view-access.ts';

const MAX_REPORT = 256 * 1024;

export function reportRoute(parts: { readonly fleet: Fleet; readonly tokens: CallerFinder }): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.post('/api/agent/v1/report', async (c) => {
    const caller = await parts.tokens.findCaller(c.req.header('authorization'));
    if (caller === undefined) throw refused('unauthorized', 'A report needs the token of its host.');
    const report = await readJson(c, agentReport, MAX_REPORT);
    if (!isAgentOf(caller, report.host)) {
      throw refused('forbidden', `The token "${caller.name}" may not report for the host ${report.host}.`);
    }
    return c.json(await parts.fleet.recordReport(report));
  });
  return app;
}

function refused(code: 'unauthorized' | 'forbidden', message: string): SlipwayError {
  return new SlipwayError(code, message, { next: 'Make one: slipway token create --agent <host>.' });
}
