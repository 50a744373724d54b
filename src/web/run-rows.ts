// The list of runs: a link each, so that keyboard, history and sharing work by themselves.
import type { RunStatus } from '../api/fleet-status.ts';
import { element, type Row } from './dom.ts';
import { runTone } from './fleet-state.ts';
import { formatDuration, shortCommit } from './format.ts';
import { signal, timeAgo } from './host-rows.ts';
import { plainText } from './log-text.ts';

export function runRows(runs: readonly RunStatus[], chosen: string | undefined, now: number): Row[] {
  return runs.map((run) => ({
    key: run.id,
    look: JSON.stringify([run, run.id === chosen]),
    render: () => runRow(run, run.id === chosen, now),
  }));
}

/** `nothing to do` rather than `nothing-to-do`. */
export function stateText(run: RunStatus): string {
  return run.state.replaceAll('-', ' ');
}

/** How long it took, or has taken so far. */
export function runDuration(run: RunStatus, now: number): string | undefined {
  if (run.startedAt === undefined) return undefined;
  const end = run.endedAt === undefined ? now : Date.parse(run.endedAt);
  return formatDuration(end - Date.parse(run.startedAt));
}

function runRow(run: RunStatus, chosen: boolean, now: number): HTMLElement {
  const link = element(
    'a',
    { href: `#run=${run.id}`, 'aria-current': chosen ? 'true' : undefined },
    element(
      'span',
      { class: 'run-line' },
      element('b', {}, `#${run.id}`),
      ' ',
      signal(runTone(run), stateText(run)),
      ' ',
      timeAgo(run.createdAt, now),
    ),
    element(
      'span',
      { class: 'run-line quiet' },
      element('code', {}, shortCommit(run.commit)),
      ` ${run.repository} · ${plainText(run.reason)}`,
    ),
    element('span', { class: 'run-note' }, plainText(run.waiting ?? run.note)),
  );
  return element('li', {}, link);
}
