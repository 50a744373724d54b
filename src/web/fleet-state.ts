// What the page knows of the fleet, folded from the messages of GET /events. Pure.
import type {
  FleetStatus,
  HostStatus,
  LiveMessage,
  RepositoryStatus,
  RunStatus,
} from '../api/fleet-status.ts';

export interface FleetState {
  readonly repositories: readonly RepositoryStatus[];
  /** By name. */
  readonly hosts: readonly HostStatus[];
  /** Newest first. */
  readonly runs: readonly RunStatus[];
}

export type Tone = 'good' | 'busy' | 'warn' | 'bad' | 'off';

const MOST_RUNS = 50;

export const EMPTY_FLEET: FleetState = { repositories: [], hosts: [], runs: [] };

export function applyMessage(state: FleetState, message: LiveMessage): FleetState {
  switch (message.name) {
    case 'snapshot':
      return fromSnapshot(message.data);
    case 'repository':
      return { ...state, repositories: replaced(state.repositories, message.data, (one) => one.name) };
    case 'host':
      return { ...state, hosts: replaced(state.hosts, message.data, (one) => one.name).toSorted(byName) };
    case 'run':
      return { ...state, runs: newestFirst(replaced(state.runs, message.data, (one) => one.id)) };
    case 'event':
    default:
      return state;
  }
}

/** One sentence about all hosts, and how worried it should look. */
export function headline(state: FleetState, now: number): { readonly text: string; readonly tone: Tone } {
  const hosts = state.hosts.filter((host) => host.mode !== 'manual');
  if (hosts.length === 0) return { text: 'Waiting for the first host', tone: 'off' };
  const bad = hosts.filter((host) => host.health === 'degraded');
  if (bad.length > 0) return { text: `${namesOf(bad)} ${isAre(bad)} degraded`, tone: 'bad' };
  const silent = hosts.filter((host) => isSilent(host, now));
  if (silent.length > 0) return { text: `${namesOf(silent)} ${isAre(silent)} silent`, tone: 'warn' };
  const busy = hosts.filter((host) => host.operation !== 'idle' && host.operation !== 'suspended');
  if (busy.length > 0) return { text: `${namesOf(busy)} ${isAre(busy)} changing`, tone: 'busy' };
  const behind = hosts.filter((host) => host.sync !== 'synced');
  if (behind.length > 0)
    return { text: `${namesOf(behind)} ${isAre(behind)} not on the release`, tone: 'warn' };
  return { text: allFine(hosts), tone: 'good' };
}

/** Those that want a look first: of many hosts nobody reads all. */
export function worstFirst(hosts: readonly HostStatus[], now: number): HostStatus[] {
  return hosts.toSorted((a, b) => worryOf(b, now) - worryOf(a, now));
}

function worryOf(host: HostStatus, now: number): number {
  if (host.mode === 'manual') return 0;
  if (host.health === 'degraded') return 5;
  if (isSilent(host, now)) return 4;
  if (host.quarantined > 0 || host.sync === 'out-of-sync') return 3;
  return host.operation === 'idle' ? 1 : 2;
}

/** Whether the host's agent has missed its reports. */
export function isSilent(host: HostStatus, now: number): boolean {
  return host.silentAfter !== undefined && Date.parse(host.silentAfter) < now;
}

export function syncTone(host: HostStatus): Tone {
  return ({ synced: 'good', 'out-of-sync': 'warn', unknown: 'off' } as const)[host.sync];
}

export function healthTone(host: HostStatus): Tone {
  const tones = {
    healthy: 'good',
    progressing: 'busy',
    degraded: 'bad',
    suspended: 'off',
    unknown: 'off',
  } as const;
  return tones[host.health];
}

export function runTone(run: RunStatus): Tone {
  const tones = {
    queued: 'off',
    running: 'busy',
    done: 'good',
    'nothing-to-do': 'good',
    failed: 'bad',
  } as const;
  return tones[run.state];
}

function fromSnapshot({ repositories, hosts, runs }: FleetStatus): FleetState {
  return { repositories, hosts: hosts.toSorted(byName), runs: newestFirst(runs) };
}

function replaced<T>(all: readonly T[], one: T, key: (item: T) => string): T[] {
  const index = all.findIndex((item) => key(item) === key(one));
  return index === -1 ? [...all, one] : all.with(index, one);
}

function newestFirst(runs: readonly RunStatus[]): RunStatus[] {
  return runs.toSorted((a, b) => Number(b.id) - Number(a.id)).slice(0, MOST_RUNS);
}

function byName(a: HostStatus, b: HostStatus): number {
  return a.name.localeCompare(b.name, 'en', { numeric: true });
}

function namesOf(hosts: readonly HostStatus[]): string {
  const [first, second] = hosts;
  if (hosts.length === 1) return first?.name ?? '';
  if (hosts.length === 2) return `${first?.name ?? ''} and ${second?.name ?? ''}`;
  return `${hosts.length} hosts`;
}

function isAre(hosts: readonly HostStatus[]): string {
  return hosts.length === 1 ? 'is' : 'are';
}

function allFine(hosts: readonly HostStatus[]): string {
  const serials = new Set(hosts.map((host) => host.serial).filter((serial) => serial !== undefined));
  const [serial] = serials;
  const release = serials.size === 1 && serial !== undefined ? `release ${serial}` : 'the release';
  return hosts.length === 1
    ? `${namesOf(hosts)} runs ${release}`
    : `All ${hosts.length} hosts run ${release}`;
}
