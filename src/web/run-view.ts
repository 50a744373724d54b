// The chosen run: heading, the way through the stages, problems with their next step, its hosts, where the time went.
import type { RunStatus } from '../api/fleet-status.ts';
import type { HostPhase } from '../api/run-events.ts';
import { byId, element, setText, showRows, type Row } from './dom.ts';
import type { Tone } from './fleet-state.ts';
import { formatDuration, shortCommit } from './format.ts';
import { signal } from './host-rows.ts';
import { plainText } from './log-text.ts';
import { runDuration, stateText } from './run-rows.ts';
import type { HostStep, Problem, RunStory, StageStory } from './run-story.ts';

export function showRun(run: RunStatus, story: RunStory, now: number): void {
  setText(byId('run-title'), `Run ${run.id}: ${stateText(run)}`);
  setText(byId('run-meta'), metaText(run, now));
  showRows(byId('stages'), [...story.stages.values()].map(stageRow));
  showRows(byId('problems'), problemRows(run, story));
  showRows(
    byId('run-hosts'),
    [...story.hosts.values()].map((step) => hostStepRow(step, run)),
  );
  showTimes(story);
}

function metaText(run: RunStatus, now: number): string {
  const took = runDuration(run, now);
  const parts = [
    `${run.repository}, ${run.branch} at ${shortCommit(run.commit)}`,
    plainText(run.reason),
    took === undefined ? '' : run.endedAt === undefined ? `for ${took}` : `took ${took}`,
    run.serial === undefined ? '' : `release ${run.serial} (${shortCommit(run.release ?? '')})`,
    plainText(run.waiting ?? run.note),
  ];
  return parts.filter((part) => part !== '').join(' · ');
}

function stageRow(told: StageStory): Row {
  return { key: told.stage, look: JSON.stringify(told), render: () => stageItem(told) };
}

function stageItem(told: StageStory): HTMLElement {
  const { stage, state, note } = told;
  return element(
    'li',
    { 'data-state': state, title: note === undefined ? undefined : plainText(note) },
    element('span', { class: 'stage-mark', 'aria-hidden': 'true' }),
    element('span', { class: 'stage-name' }, stage),
    element('span', { class: 'unseen' }, ` ${state} `),
    element('span', { class: 'stage-time' }, stageTime(told)),
  );
}

function stageTime({ state, ms }: StageStory): string {
  if (state === 'running') return 'now';
  return ms === undefined || state === 'skipped' ? '' : formatDuration(ms);
}

/** The run's own problem comes last: the pipeline has told most runs' problems as events already. */
function problemRows(run: RunStatus, story: RunStory): Row[] {
  const told = story.problems.map((problem, index) => problemRow(`event ${index}`, problem));
  const own = run.problem;
  if (!own || story.problems.some((problem) => problem.message === own.message)) return told;
  return [...told, problemRow('run', { kind: 'problem', at: run.createdAt, ...own })];
}

function problemRow(key: string, problem: Problem): Row {
  return { key, look: JSON.stringify(problem), render: () => problemBox(problem) };
}

function problemBox(problem: Problem): HTMLElement {
  const where = [problem.host, problem.stage].filter((part) => part !== undefined).join(', ');
  const box = element(
    'div',
    { class: 'problem' },
    element('p', { class: 'problem-where' }, where === '' ? problem.code : `${where} · ${problem.code}`),
    element('p', { class: 'problem-text' }, multiLine(problem.message)),
  );
  if (problem.next !== undefined) {
    box.append(element('p', { class: 'problem-next' }, element('b', {}, 'Next: '), multiLine(problem.next)));
  }
  return box;
}

function multiLine(text: string): string {
  return text.split('\n').map(plainText).join('\n');
}

function hostStepRow(step: HostStep, run: RunStatus): Row {
  const ended = run.endedAt !== undefined;
  return { key: step.host, look: JSON.stringify([step, ended]), render: () => hostStepItem(step, ended) };
}

function hostStepItem(step: HostStep, ended: boolean): HTMLElement {
  const note = step.note === undefined ? '' : plainText(step.note);
  return element(
    'li',
    { title: step.toplevel },
    element('b', {}, step.host),
    ' ',
    signal(phaseTone(step.phase, ended), step.phase.replaceAll('-', ' ')),
    ' ',
    element('span', { class: 'quiet' }, note),
  );
}

/** Nothing turns any more in a run that has ended. */
function phaseTone(phase: HostPhase, ended: boolean): Tone {
  if (['committed', 'unchanged'].includes(phase)) return 'good';
  if (['rolled-back', 'refused', 'quarantined', 'failed'].includes(phase)) return 'bad';
  if (phase === 'deferred' || phase === 'rolling-back') return 'warn';
  return ended || phase === 'manual' || phase === 'awaiting-agent' ? 'off' : 'busy';
}

/** A bar of where the time went: Slipway's own part, and what it waited for. */
function showTimes(story: RunStory): void {
  const box = byId('times');
  const spans = [...story.times.values()].filter((span) => span.ms >= 1).toSorted((a, b) => b.ms - a.ms);
  box.hidden = spans.length === 0 || story.totalMs === undefined;
  const look = JSON.stringify([spans, story.totalMs]);
  if (box.hidden || box.getAttribute('data-look') === look) return;
  box.setAttribute('data-look', look);
  const longest = Math.max(...spans.map((span) => span.ms));
  box.replaceChildren(
    element('h4', {}, 'Where the time went'),
    ...spans.slice(0, 12).map(({ name, ms, outside }) => {
      const bar = element('span', { class: 'time-bar', 'data-outside': String(outside) });
      bar.style.width = `${Math.max(1, (ms / longest) * 100)}%`;
      const label = element('span', { class: 'time-name' }, plainText(name));
      const track = element('span', { class: 'time-track', 'aria-hidden': 'true' }, bar);
      return element(
        'div',
        { class: 'time-row' },
        label,
        track,
        element('span', { class: 'time-value' }, formatDuration(ms)),
      );
    }),
  );
}
