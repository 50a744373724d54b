// How deploy commands tell how it ended: a line a host, or JSON; and their exit code.
import type { HookResult } from '../api/deploy-hooks.ts';
import { describeHook } from '../deploy/controller-hooks.ts';
import { deployError, type DeployOutcome, hookError } from '../deploy/deploy-outcome.ts';
import { exitCode, SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { failureJson, reportFailure } from './failure.ts';
import { makeStyle, stripControl } from './style.ts';

export interface ReportOptions {
  readonly json: boolean;
  readonly ms: number;
  /** Of the whole rollout, after its end. */
  readonly failedHooks?: readonly HookResult[];
}

/**
 * Prints how it ended and sets the exit code: that of the first host that did not end well, else 17 when a hook failed
 * after a deploy.
 */
export function reportOutcomes(io: CliIo, outcomes: readonly DeployOutcome[], options: ReportOptions): void {
  const failures = outcomes.map(deployError).filter((error) => error !== undefined);
  if (options.json) {
    const hosts = outcomes.map(outcomeJson);
    const { ms, failedHooks = [] } = options;
    const hooks = failedHooks.length === 0 ? {} : { failedHooks };
    io.stdout(`${JSON.stringify({ ok: failures.length === 0, ms: Math.round(ms), hosts, ...hooks })}\n`);
  } else {
    for (const failure of failures) reportFailure(io, failure, false);
    for (const outcome of outcomes)
      if (deployError(outcome) === undefined) io.stdout(successLine(io, outcome));
  }
  const warnings = hookWarnings(outcomes, options.failedHooks);
  if (!options.json) for (const warning of warnings) reportFailure(io, warning, false);
  const [first] = [...failures, ...warnings];
  if (first !== undefined) process.exitCode = exitCode(first);
}

function hookWarnings(
  outcomes: readonly DeployOutcome[],
  ofRollout: readonly HookResult[] = [],
): SlipwayError[] {
  const ofHosts = outcomes.map(hookError).filter((error) => error !== undefined);
  if (ofRollout.length === 0) return ofHosts;
  const told = ofRollout.map((result) => describeHook(result, 'of the rollout')).join(' ');
  const next = 'Its output is above; how the hosts ended stands.';
  return [...ofHosts, new SlipwayError('hook_failed', told, { next, facts: { hooks: ofRollout } })];
}

function successLine(io: CliIo, outcome: DeployOutcome): string {
  const style = makeStyle(io.color);
  if (outcome.kind === 'skipped')
    return `${style.warn('--')} ${outcome.host} was left out: ${stripControl(outcome.error.message)}\n`;
  if (outcome.kind === 'kept')
    return `${style.good('ok')} ${outcome.host} runs ${outcome.state.toplevel}. ${outcome.state.detail}\n`;
  if (outcome.kind !== 'committed') return `${style.good('ok')} ${outcome.host} runs this system already\n`;
  const { generation, toplevel, detail } = outcome.state;
  const said = detail === '' ? '' : ` ${detail}`;
  return `${style.good('ok')} ${outcome.host} is on ${toplevel} (generation ${generation}).${said}\n`;
}

function outcomeJson(outcome: DeployOutcome): Record<string, unknown> {
  const error = deployError(outcome);
  return {
    host: outcome.host,
    outcome: outcome.kind,
    ...('state' in outcome && { state: outcome.state }),
    ...('reason' in outcome && { reason: outcome.reason, detail: outcome.detail }),
    ...(error !== undefined && { error: failureJson(error) }),
    ...(outcome.failedHooks !== undefined && { failedHooks: outcome.failedHooks }),
  };
}
