// How a host's row follows from what is heard about it: events of runs and reports of its own agent. Pure.
// A report is the host's own word and outranks what a run supposed; a host without an agent has the run's word only.
import type { AgentReport } from '../api/agent-report.ts';
import type { HostStatus } from '../api/fleet-status.ts';
import type { HostPhase, RunEvent } from '../api/run-events.ts';

type HostEvent = Extract<RunEvent, { kind: 'host' }>;
type ProblemEvent = Extract<RunEvent, { kind: 'problem' }>;
type EndEvent = Extract<RunEvent, { kind: 'run-finished' }>;
type Axes = Partial<Pick<HostStatus, 'mode' | 'sync' | 'health' | 'operation'>>;

export function newHostStatus(name: string, at: string): HostStatus {
  return {
    name,
    mode: 'unknown',
    sync: 'unknown',
    health: 'unknown',
    operation: 'idle',
    note: '',
    quarantined: 0,
    updatedAt: at,
  };
}

/** The row after a step of run `run`. */
export function hostAfterStep(before: HostStatus, run: string, event: HostEvent): HostStatus {
  const note = event.note ?? '';
  return {
    ...before,
    ...axesAfterStep(before, event.phase),
    ...pathsAfter(before, event),
    note: note === '' ? before.note : note,
    lastDeploy: { run, phase: event.phase, note, at: event.at },
    updatedAt: event.at,
  };
}

/** The row after a problem that a deploy had with the host; problems of other stages say nothing about it. */
export function hostAfterProblem(before: HostStatus, event: ProblemEvent): HostStatus {
  if (event.stage !== 'deploy') return before;
  const axes = reportsItself(before) ? {} : (PROBLEM_AXES[event.code] ?? { sync: 'out-of-sync' });
  const note = event.message.split('\n', 1)[0] ?? '';
  return { ...before, operation: 'idle', ...axes, note, updatedAt: event.at };
}

/** The row of a host that the ended run left on its release. */
export function hostAfterRun(before: HostStatus, run: string, event: EndEvent): HostStatus {
  const { serial, release } = event;
  const took = before.mode === 'push' && before.sync === 'synced' && before.lastDeploy?.run === run;
  if (!took || serial === undefined || release === undefined) return before;
  return { ...before, serial, release, updatedAt: event.at };
}

/** The row after a report that came in at `receivedAt`; the next one is expected within `nextPollSeconds`. */
export function hostAfterReport(
  before: HostStatus,
  report: AgentReport,
  receivedAt: string,
  nextPollSeconds: number,
): HostStatus {
  const { release: _release, serial: _serial, ...kept } = before;
  return {
    ...kept,
    mode: 'pull',
    sync: report.sync,
    health: report.health,
    operation: report.operation,
    current: report.current,
    generation: report.generation,
    ...(report.release !== undefined && { release: report.release }),
    ...(report.serial !== undefined && { serial: report.serial }),
    note: report.note,
    lastReport: receivedAt,
    silentAfter: new Date(Date.parse(receivedAt) + silenceMs(nextPollSeconds)).toISOString(),
    quarantined: report.quarantined.length,
    updatedAt: receivedAt,
  };
}

/** The row of a host whose run was cut off: nobody works on it any more. */
export function hostAfterInterruption(before: HostStatus, at: string): HostStatus {
  if (reportsItself(before) || before.operation === 'idle') return before;
  const note = 'The run that worked on this host was interrupted.';
  return { ...before, operation: 'idle', health: 'unknown', sync: 'unknown', note, updatedAt: at };
}

/** Three missed reports and half a minute: one lost packet is no silence. */
function silenceMs(nextPollSeconds: number): number {
  return (3 * nextPollSeconds + 30) * 1000;
}

function reportsItself(host: HostStatus): boolean {
  return host.lastReport !== undefined;
}

function axesAfterStep(before: HostStatus, phase: HostPhase): Axes {
  const axes = PHASE_AXES[phase];
  if (reportsItself(before)) return axes.sync === 'out-of-sync' ? { sync: 'out-of-sync' } : {};
  // Said before the host was asked, these two are about the release and not about the host.
  const aboutRelease = (phase === 'unchanged' || phase === 'failed') && before.operation === 'idle';
  return aboutRelease ? {} : axes;
}

function pathsAfter(before: HostStatus, event: HostEvent): Partial<HostStatus> {
  if (event.toplevel === undefined) return {};
  const runsIt = event.phase === 'committed' || (event.phase === 'unchanged' && before.operation !== 'idle');
  if (runsIt && !reportsItself(before)) {
    return { wanted: event.toplevel, current: event.toplevel };
  }
  return { wanted: event.toplevel };
}

/** What a phase says about a host that cannot speak for itself. Evaluating and building say nothing about the host. */
const PHASE_AXES: Readonly<Record<HostPhase, Axes>> = {
  unchanged: { sync: 'synced', operation: 'idle' },
  evaluating: {},
  evaluated: {},
  building: {},
  built: {},
  deferred: {},
  caching: {},
  cached: {},
  preparing: { mode: 'push', sync: 'out-of-sync', operation: 'waiting' },
  copying: { mode: 'push', sync: 'out-of-sync', operation: 'fetching' },
  activating: { mode: 'push', sync: 'out-of-sync', health: 'progressing', operation: 'activating' },
  rebooting: { mode: 'push', sync: 'out-of-sync', health: 'progressing', operation: 'rebooting' },
  trial: { mode: 'push', sync: 'out-of-sync', health: 'progressing', operation: 'trial' },
  confirming: { mode: 'push', sync: 'out-of-sync', health: 'progressing', operation: 'trial' },
  committing: { mode: 'push', sync: 'out-of-sync', health: 'progressing', operation: 'committing' },
  committed: { sync: 'synced', health: 'healthy', operation: 'idle' },
  'rolling-back': { sync: 'out-of-sync', health: 'degraded', operation: 'rolling-back' },
  'rolled-back': { sync: 'out-of-sync', health: 'healthy', operation: 'idle' },
  refused: { sync: 'out-of-sync', operation: 'idle' },
  quarantined: { sync: 'out-of-sync', operation: 'idle' },
  manual: { mode: 'manual', operation: 'idle' },
  'awaiting-agent': { mode: 'pull', sync: 'out-of-sync', operation: 'waiting' },
  failed: { sync: 'out-of-sync', operation: 'idle' },
};

/** What a deploy's error code says, where it says more than that the host is not on the release. */
const PROBLEM_AXES: Readonly<Record<string, Axes>> = {
  deploy_rolled_back: { sync: 'out-of-sync', health: 'healthy' },
  deploy_rolled_back_unhealthy: { sync: 'out-of-sync', health: 'degraded' },
  deploy_rollback_failed: { sync: 'unknown', health: 'degraded' },
  deploy_degraded: { sync: 'synced', health: 'degraded' },
  host_unreachable: { sync: 'unknown', health: 'unknown' },
  host_key_mismatch: { sync: 'unknown', health: 'unknown' },
};
