// How deploy commands tell their story: a line for each step of each host while it goes, a table or JSON at the end.
import type { EmitRunEvent, RunEventBody } from '../api/run-events.ts';
import { deployError, type DeployOutcome } from '../deploy/deploy-outcome.ts';
import { exitCode } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { failureJson, reportFailure } from './failure.ts';
import { formatDuration, makeStyle, stripControl } from './style.ts';

/** Shows events as they come, on stderr; with `json` nothing is shown until the end. */
export function showProgress(io: CliIo, json: boolean): EmitRunEvent {
  const started = performance.now();
  const style = makeStyle(io.color);
  const line = (host: string, text: string): void => {
    const at = style.dim(formatDuration(performance.now() - started).padStart(8));
    io.stderr(`${at}  ${style.bold(host)}  ${stripControl(text)}\n`);
  };
  return (event: RunEventBody): void => {
    if (json) return;
    if (event.kind === 'host') line(event.host, [event.phase, event.note].filter(Boolean).join(': '));
    if (event.kind === 'log') line(event.host ?? '', style.dim(event.line));
  };
}

/** Prints how it ended and sets the exit code: that of the first host that did not end well. */
export function reportOutcomes(
  io: CliIo,
  outcomes: readonly DeployOutcome[],
  options: { readonly json: boolean; readonly ms: number },
): void {
  const failures = outcomes.map(deployError).filter((error) => error !== undefined);
  if (options.json) {
    const hosts = outcomes.map(outcomeJson);
    io.stdout(`${JSON.stringify({ ok: failures.length === 0, ms: Math.round(options.ms), hosts })}\n`);
  } else {
    for (const failure of failures) reportFailure(io, failure, false);
    for (const outcome of outcomes)
      if (deployError(outcome) === undefined) io.stdout(successLine(io, outcome));
  }
  const [first] = failures;
  if (first !== undefined) process.exitCode = exitCode(first);
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
  };
}
