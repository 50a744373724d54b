// The status page: holds the state, draws it at most once a frame, and remembers the chosen run in the address.
import type { EventPage, LiveMessage, RunStatus } from '../api/fleet-status.ts';
import { byId, element, setText, showRows } from './dom.ts';
import { applyMessage, EMPTY_FLEET, headline, type FleetState, worstFirst } from './fleet-state.ts';
import { formatAgo, shortCommit } from './format.ts';
import { hostRows, signal } from './host-rows.ts';
import { connectLive } from './live.ts';
import { LogView } from './log-view.ts';
import { runRows, stateText } from './run-rows.ts';
import { newStory, tell, type RunStory } from './run-story.ts';
import { showRun } from './run-view.ts';

const FILTER_FROM = 8; // hosts from which on a filter helps more than it distracts, and the worst come first
const MOST_HOSTS = 20; // the rest waits behind a button, so that the runs stay in reach
const TICK_MS = 1_000;

let fleet: FleetState = EMPTY_FLEET;
let loaded = false;
let chosen: { readonly id: string; readonly story: RunStory } | undefined;
let frame = 0;
let allHosts = false;
const log = new LogView();
const filter = byId('host-filter');
const filterInput = filter.querySelector('input');

connectLive({ onMessage: take, onState: showConnection });
addEventListener('hashchange', choose);
filterInput?.addEventListener('input', draw);
byId('all-hosts').addEventListener('click', () => {
  allHosts = true;
  draw();
});
setInterval(tick, TICK_MS);

function take(message: LiveMessage): void {
  if (message.name === 'run') announce(message.data);
  fleet = applyMessage(fleet, message);
  if (message.name === 'snapshot') {
    loaded = true;
    choose();
    if (chosen) void loadEvents(chosen);
  }
  if (message.name === 'event' && message.data.run === chosen?.id) tellInOrder(chosen, message.data);
  if (message.name === 'run' && chosen === undefined) choose();
  draw();
}

/** The run of the address, or else the newest one, which is then followed as new ones come. */
function choose(): void {
  const id = /^#run=(\d+)$/.exec(location.hash)?.[1] ?? fleet.runs[0]?.id;
  if (id === undefined || id === chosen?.id) return;
  chosen = { id, story: newStory() };
  log.open(chosen.story);
  void loadEvents(chosen);
  draw();
}

/** Live events are told only when they follow on what is told; a gap is loaded from the server. */
function tellInOrder(of: NonNullable<typeof chosen>, stored: Parameters<typeof tell>[1]): void {
  if (stored.seq <= of.story.seq + 1) tell(of.story, stored);
  else void loadEvents(of);
}

const loading = new Set<string>();

async function loadEvents(of: NonNullable<typeof chosen>): Promise<void> {
  if (loading.has(of.id)) return;
  loading.add(of.id);
  try {
    while (await loadPage(of)) draw();
    draw();
  } finally {
    loading.delete(of.id);
  }
}

/** Whether there is more to load. */
async function loadPage(of: NonNullable<typeof chosen>): Promise<boolean> {
  const answer = await fetch(`/api/v1/runs/${of.id}/events?after=${of.story.seq}`);
  if (!answer.ok) return false;
  const page = (await answer.json()) as EventPage;
  for (const stored of page.events) tell(of.story, stored);
  return page.more && of === chosen;
}

function draw(): void {
  if (frame !== 0) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    drawNow();
  });
}

function drawNow(): void {
  if (!loaded) return;
  const now = Date.now();
  if (!location.hash.startsWith('#run=')) choose();
  drawHeadline(now);
  drawRepositories();
  drawHosts(now);
  byId('no-runs').hidden = fleet.runs.length > 0;
  byId('run-split').hidden = fleet.runs.length === 0;
  showRows(byId('run-list'), runRows(fleet.runs, chosen?.id, now));
  drawRun(now);
}

function drawHosts(now: number): void {
  const many = fleet.hosts.length >= FILTER_FROM;
  filter.hidden = !many;
  byId('no-hosts').hidden = fleet.hosts.length > 0;
  byId('hosts').parentElement?.toggleAttribute('hidden', fleet.hosts.length === 0);
  const rows = hostRows(many ? worstFirst(fleet.hosts, now) : fleet.hosts, filterInput?.value ?? '', now);
  const shown = allHosts ? rows : rows.slice(0, MOST_HOSTS);
  showRows(byId('hosts'), shown);
  byId('all-hosts').hidden = shown.length === rows.length;
  setText(byId('all-hosts'), `Show all ${rows.length} hosts`);
}

function drawHeadline(now: number): void {
  const { text, tone } = headline(fleet, now);
  setText(byId('headline'), text);
  byId('headline').dataset['tone'] = tone;
  setText(byId('subline'), sublineText());
  document.title = `${text} · Slipway`;
}

function sublineText(): string {
  const counts = [`${fleet.hosts.length} ${fleet.hosts.length === 1 ? 'host' : 'hosts'}`];
  const running = fleet.runs.filter((run) => run.state === 'running').map((run) => `run ${run.id}`);
  const watched = fleet.repositories.map((one) => `${one.name} ${one.branch}`).join(', ');
  if (running.length > 0) counts.push(`${running.join(', ')} under way`);
  else counts.push(watched === '' ? 'no repository is watched' : `watching ${watched}`);
  return counts.join(' · ');
}

function drawRepositories(): void {
  const rows = fleet.repositories.map((one) => ({
    key: one.name,
    look: JSON.stringify({ ...one, lookedAt: undefined }),
    render: () => {
      const head = one.head === undefined ? '' : `@${shortCommit(one.head)}`;
      const item = element('li', {}, element('b', {}, one.name), ` ${one.branch}${head}`);
      if (one.problem) {
        item.title = [one.problem.message, one.problem.next ?? ''].join(' ');
        item.append(' ', signal('bad', 'not readable'));
      }
      return item;
    },
  }));
  showRows(byId('repositories'), rows);
}

function drawRun(now: number): void {
  const run = fleet.runs.find((one) => one.id === chosen?.id);
  byId('run').hidden = run === undefined;
  if (run === undefined || chosen === undefined) return;
  showRun(run, chosen.story, now);
  log.update();
}

/** Moments grow older without anything happening; a running run's duration, too. */
function tick(): void {
  const now = Date.now();
  for (const time of document.querySelectorAll('time')) setText(time, formatAgo(time.dateTime, now));
  draw();
}

function showConnection(state: 'live' | 'reconnecting'): void {
  const pill = byId('connection');
  setText(pill, state);
  pill.dataset['tone'] = state === 'live' ? 'good' : 'warn';
}

/** Tells people who do not see the page how runs end. */
function announce(run: RunStatus): void {
  const before = fleet.runs.find((one) => one.id === run.id);
  if (before?.state !== run.state) setText(byId('announce'), `Run ${run.id}: ${stateText(run)}. ${run.note}`);
}
