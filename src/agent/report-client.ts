// Tells the control plane how this host is, and hears whether to wait. Best effort: a controller that is down
// delays nothing, and at most one report is under way.
import type { AgentConfig } from '../api/agent-config.ts';
import { agentAnswer, type AgentAnswer, type AgentReport } from '../api/agent-report.ts';
import { readSecretReference } from '../effects/secret-reference.ts';
import { SlipwayError } from '../util/errors.ts';
import { parseJson } from '../util/parse-json.ts';
import { sendHttpRequest } from './http-request.ts';

type Controller = NonNullable<AgentConfig['controller']>;

const REPORT_TIMEOUT_MS = 10_000;
const HTTP_OK = 200;

/** Posts the report. Fails with `unavailable`, `unauthorized` or `invalid`; never with the token in a message. */
export async function sendReport(
  controller: Controller,
  report: AgentReport,
  signal: AbortSignal,
): Promise<AgentAnswer> {
  const token = await readSecretReference(controller.token);
  const answer = await sendHttpRequest({
    method: 'POST',
    url: `${controller.url.replace(/\/+$/, '')}/api/agent/v1/report`,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(report),
    timeoutMs: REPORT_TIMEOUT_MS,
    signal,
  });
  if (answer.status !== HTTP_OK) throw refused(controller, answer.status);
  const parsed = agentAnswer.safeParse(parseJson(answer.body));
  if (parsed.success) return parsed.data;
  throw new SlipwayError(
    'invalid',
    `The controller ${controller.url} answered with something else than an answer.`,
  );
}

function refused(controller: Controller, status: number): SlipwayError {
  const code = status === 401 || status === 403 ? 'unauthorized' : 'unavailable';
  return new SlipwayError(
    code,
    `The controller ${controller.url} answered ${status} to this host's report.`,
    {
      next: 'Check the token of this agent: "slipway token create" makes one for a host.',
    },
  );
}
