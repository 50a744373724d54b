// `slipway agent status` for people: three axes, then what explains them.
import type { AgentOverview } from '../agent/agent-overview.ts';
import { nameHooks } from '../deploy/name-hooks.ts';
import { formatDuration, formatTable, makeStyle, stripControl, type Style } from './style.ts';

/** Label, text from anywhere (made safe to print), colour. */
type Row = readonly [label: string, text: string, paint?: keyof Style];

export function formatOverview(overview: AgentOverview, color: boolean): string {
  const style = makeStyle(color);
  const rows = [...axes(overview), ...systems(overview), ...explanations(overview)];
  return formatTable(rows.map(([label, text, paint]) => [label, painted(style, stripControl(text), paint)]));
}

function axes({ report, reasons, pid, suspension, state }: AgentOverview): Row[] {
  const since = formatDuration(Date.now() - Date.parse(state.operation.since));
  const busy = report.operation === 'idle' ? report.operation : `${report.operation} for ${since}`;
  const running: Row =
    pid === undefined ? ['agent', 'not running', 'bad'] : ['agent', `running (process ${pid})`];
  const rows: Row[] = [
    ['host', report.host, 'bold'],
    ['sync', report.sync + listed(reasons), syncPaint(report.sync)],
    ['health', report.health, healthPaint(report.health)],
    ['operation', busy],
    running,
  ];
  if (suspension === undefined) return rows;
  const until = suspension.until === undefined ? '' : ` until ${suspension.until}`;
  return [...rows, ['suspended', `by ${suspension.by}${until}: ${suspension.reason}`, 'warn']];
}

function systems({ report, state }: AgentOverview): Row[] {
  const { applied } = state;
  return [
    ['release', applied === undefined ? 'none' : `${applied.serial} (${applied.commit.slice(0, 10)})`],
    ['current', report.current],
    ['profile', `${report.profile} (generation ${report.generation})`],
    ['booted', report.booted],
    ['boots next', report.bootDefault === '' ? 'not known' : report.bootDefault],
  ];
}

function explanations({ state }: AgentOverview): Row[] {
  const { seen, controller } = state;
  const rows: Row[] = [];
  if (seen !== undefined) rows.push(['decision', `${seen.decision}: ${seen.detail}`]);
  if (seen?.next !== undefined) rows.push(['next', seen.next, 'accent']);
  rows.push(...lastTrial(state));
  for (const entry of state.quarantine)
    rows.push(['quarantined', `${entry.toplevel} ${entry.reason}: ${entry.detail}`, 'warn']);
  for (const remote of state.remotes)
    rows.push(['remote', `${remote.url} ${remote.ok ? 'ok' : remote.note}`]);
  if (controller?.ok === true) rows.push(['controller', 'ok']);
  if (controller?.ok === false) rows.push(['controller', controller.note, 'warn']);
  return rows;
}

function lastTrial({ lastResult }: AgentOverview['state']): Row[] {
  if (lastResult === undefined) return [];
  const { phase, reason, detail, at, failedHooks = [] } = lastResult;
  const end: Row = ['last trial', [phase, reason, detail, `(${at})`].filter((part) => part !== '').join(' ')];
  return failedHooks.length === 0 ? [end] : [end, ['hooks failed', nameHooks(failedHooks), 'warn']];
}

function syncPaint(sync: AgentOverview['report']['sync']): keyof Style {
  if (sync === 'synced') return 'good';
  return sync === 'unknown' ? 'dim' : 'warn';
}

function healthPaint(health: AgentOverview['report']['health']): keyof Style {
  if (health === 'healthy') return 'good';
  return health === 'degraded' ? 'bad' : 'warn';
}

function painted(style: Style, text: string, paint: keyof Style | undefined): string {
  return paint === undefined ? text : style[paint](text);
}

function listed(words: readonly string[]): string {
  return words.length === 0 ? '' : ` (${words.join(', ')})`;
}
