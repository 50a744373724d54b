// How a pipeline run looks: a line for each stage and step while it goes, failures as contiguous blocks, and at the end
// where the time went. With --json each event is a line, the last one `run-finished`.
import type { EmitRunEvent, RunEventBody } from '../api/run-events.ts';
import type { RunResult } from '../pipeline/run-options.ts';
import { exitCode } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { formatDuration, makeStyle, type Style, stripControl } from './style.ts';

export interface RunReportOptions {
  readonly json: boolean;
  /** Also show every line of the build logs. */
  readonly logs: boolean;
}

/** Where the run's events go. */
export function showRun(io: CliIo, options: RunReportOptions): EmitRunEvent {
  if (options.json)
    return (event) => io.stdout(`${JSON.stringify({ ...event, at: new Date().toISOString() })}\n`);
  const report = new RunReport(io, options.logs);
  return (event) => report.show(event);
}

/** The exit code of a run: that of its first failure. */
export function exitCodeOf(result: RunResult): number {
  if (result.outcome !== 'failed') return 0;
  return result.error === undefined ? 1 : exitCode(result.error);
}

class RunReport {
  readonly #io: CliIo;
  readonly #style: Style;
  readonly #logs: boolean;
  readonly #spans: { readonly name: string; readonly ms: number; readonly outside: boolean }[] = [];

  constructor(io: CliIo, logs: boolean) {
    this.#io = io;
    this.#style = makeStyle(io.color);
    this.#logs = logs;
  }

  show(event: RunEventBody): void {
    const style = this.#style;
    switch (event.kind) {
      case 'run-started':
        return this.#line(
          `${style.bold('run')} ${event.run} of ${event.branch} ${event.source.slice(0, 12)} ${style.dim(`(${event.reason})`)}`,
        );
      case 'stage-started':
        return this.#line(style.bold(event.stage));
      case 'stage-finished':
        return this.#stage(event);
      case 'host':
        return this.#host(event);
      case 'log':
        if (this.#logs) this.#line(style.dim(`  ${stripControl(event.line)}`));
        return;
      case 'problem':
        return this.#problem(event);
      case 'span':
        this.#spans.push(event);
        return;
      case 'run-finished':
        return this.#finish(event);
      default:
        return event satisfies never;
    }
  }

  #stage(event: Extract<RunEventBody, { kind: 'stage-finished' }>): void {
    const style = this.#style;
    const note = event.note === undefined ? '' : ` ${event.note}`;
    if (event.outcome === 'skipped') return this.#line(style.dim(`${event.stage} skipped:${note}`));
    const tone = ({ ok: 'good', partly: 'warn', failed: 'bad' } as const)[event.outcome];
    const word = style[tone](event.outcome);
    this.#line(`  ${word} ${style.dim(formatDuration(event.ms ?? 0))}${note}`);
  }

  #host(event: Extract<RunEventBody, { kind: 'host' }>): void {
    const style = this.#style;
    const took = event.ms === undefined ? '' : ` ${formatDuration(event.ms)}`;
    const note = event.note === undefined ? '' : ` ${stripControl(event.note)}`;
    this.#line(`  ${event.host.padEnd(10)} ${this.#phase(event.phase)}${style.dim(took + note)}`);
  }

  #phase(phase: Extract<RunEventBody, { kind: 'host' }>['phase']): string {
    const style = this.#style;
    if (['failed', 'rolled-back', 'refused', 'quarantined'].includes(phase)) return style.bad(phase);
    if (['rolling-back', 'deferred'].includes(phase)) return style.warn(phase);
    if (['committed', 'built', 'cached', 'evaluated'].includes(phase)) return style.good(phase);
    return phase === 'unchanged' ? style.dim(phase) : phase;
  }

  #problem(event: Extract<RunEventBody, { kind: 'problem' }>): void {
    const style = this.#style;
    const text = event.message.split('\n').map(stripControl).join('\n        ');
    this.#line(`  ${style.bad('error')} ${style.dim(`[${event.code}]`)} ${text}`);
    if (event.next !== undefined) this.#line(`   ${style.accent('next')} ${stripControl(event.next)}`);
  }

  #finish(event: Extract<RunEventBody, { kind: 'run-finished' }>): void {
    const style = this.#style;
    const parts = this.#spans
      .filter((span) => span.outside)
      .toSorted((a, b) => b.ms - a.ms)
      .map((span) => `${span.name} ${formatDuration(span.ms)}`);
    const own = this.#spans.find((span) => !span.outside);
    if (own) parts.push(`Slipway itself ${formatDuration(own.ms)}`);
    this.#line(style.dim(`time ${formatDuration(event.ms)}: ${parts.join(', ')}`));
    const word = event.outcome === 'failed' ? style.bad('failed') : style.good(event.outcome);
    this.#line(`${word} ${stripControl(event.note)}`);
  }

  #line(text: string): void {
    this.#io.stdout(`${text}\n`);
  }
}
