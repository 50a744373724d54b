// Where the time from `git push` to committed hosts goes: the stages, what was spent outside Slipway, what was its own.
import type { RunEvent } from '../../src/api/run-events.ts';

export interface PushTimes {
  /** Clock readings in ms: the push began, git was done, the run had ended, every host had committed. */
  readonly started: number;
  readonly pushed: number;
  readonly ran: number;
  readonly ended: number;
}

export function formatBreakdown(times: PushTimes, events: readonly RunEvent[]): string[] {
  const spans = events.filter((event) => event.kind === 'span');
  const stages = events.flatMap((event) =>
    event.kind === 'stage-finished' && event.outcome !== 'skipped'
      ? [`${event.stage} ${seconds(event.ms ?? 0)}`]
      : [],
  );
  const own = spans.filter((span) => !span.outside).reduce((sum, span) => sum + span.ms, 0);
  const run = events.find((event) => event.kind === 'run-finished')?.ms ?? 0;
  const start = times.ran - times.pushed - run;
  const outside = spans.filter((span) => span.outside).map((span) => `${span.name} ${seconds(span.ms)}`);
  return [
    `total ${seconds(times.ended - times.started)}: git push ${seconds(times.pushed - times.started)}, webhook and start of the run ${seconds(start)},`,
    `  run ${seconds(run)} (${stages.join(', ')}), pull host after that ${seconds(times.ended - times.ran)}`,
    `outside Slipway, overlapping: ${outside.join(', ')}`,
    `Slipway's own ${seconds(own + Math.max(0, start))}`,
  ];
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
