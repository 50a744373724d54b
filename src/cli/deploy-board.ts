// What is known of each host of a deploy, from its events, and how that looks: one line a host. Pure.
import type { HostPhase, RunEventBody } from '../api/run-events.ts';
import { formatDuration, type Style, stripControl } from './style.ts';

export interface HostLine {
  readonly phase: HostPhase | 'waiting';
  /** What the host or the copy said last. */
  readonly note: string;
  /** Milliseconds; undefined while it waits. */
  readonly since: number | undefined;
  readonly ended: number | undefined;
  readonly copied: number;
  readonly toCopy: number;
}

export type Board = ReadonlyMap<string, HostLine>;

/** The way of a deploy; what is not on it is an end, or the way back. */
const WAY: readonly HostPhase[] = [
  'preparing',
  'copying',
  'activating',
  'trial',
  'confirming',
  'committing',
  'committed',
];
const GOOD: readonly HostPhase[] = ['committed', 'unchanged'];
const BAD: readonly HostPhase[] = ['failed', 'rolled-back', 'rolling-back', 'refused', 'quarantined'];
const ENDS: readonly string[] = [...GOOD, 'failed', 'rolled-back', 'refused', 'quarantined'];
const WAITING: HostLine = {
  phase: 'waiting',
  note: '',
  since: undefined,
  ended: undefined,
  copied: 0,
  toCopy: 0,
};

export function emptyBoard(hosts: readonly string[]): Board {
  return new Map(hosts.map((host) => [host, WAITING]));
}

/** The board after an event at `now` (ms). */
export function updateBoard(board: Board, event: RunEventBody, now: number): Board {
  if (event.kind !== 'host' && event.kind !== 'log') return board;
  if (event.host === undefined) return board;
  const line = board.get(event.host) ?? WAITING;
  const next = event.kind === 'host' ? withPhase(line, event, now) : withLog(line, event.line);
  return new Map([...board, [event.host, next]]);
}

function withPhase(
  line: HostLine,
  { phase, note = '' }: Extract<RunEventBody, { kind: 'host' }>,
  now: number,
): HostLine {
  const ended = ENDS.includes(phase) ? now : undefined;
  return { ...line, phase, note, since: line.since ?? now, ended };
}

function withLog(line: HostLine, said: string): HostLine {
  const total = /^copying (\d+) paths/.exec(said);
  if (total !== null) return { ...line, toCopy: Number(total[1]) };
  if (said.startsWith('copying path ')) return { ...line, copied: line.copied + 1 };
  return isOver(line) ? line : { ...line, note: said };
}

/** Whether nothing more is to come from this host. */
export function isOver(line: HostLine): boolean {
  return line.ended !== undefined;
}

export interface BoardLook {
  readonly columns: number;
  readonly rows: number;
  readonly now: number;
  readonly style: Style;
}

/** At most `rows` lines: hosts at work first when they are too many, then how many there are of each phase. */
export function renderBoard(board: Board, look: BoardLook): string[] {
  const all = [...board];
  const width = Math.min(24, Math.max(0, ...all.map(([host]) => host.length)));
  const room = Math.max(1, look.rows - 1);
  if (all.length <= room) return all.map((entry) => renderLine(entry, width, look));
  const busy = all.filter(([, line]) => line.since !== undefined && !isOver(line));
  const shown = [...busy, ...all.filter((entry) => !busy.includes(entry))].slice(0, room - 1);
  const kept = all.filter((entry) => shown.includes(entry));
  return [
    ...kept.map((entry) => renderLine(entry, width, look)),
    look.style.dim(countPhases(board).slice(0, look.columns - 1)),
  ];
}

/** `12 committed, 3 trial, 30 waiting`. */
export function countPhases(board: Board): string {
  const counts = Map.groupBy(board.values(), ({ phase }) => phase);
  return [...counts].map(([phase, lines]) => `${lines.length} ${phase}`).join(', ');
}

function renderLine([host, line]: readonly [string, HostLine], width: number, look: BoardLook): string {
  const { style, now, columns } = look;
  const took = line.since === undefined ? '' : formatDuration(Math.max(0, (line.ended ?? now) - line.since));
  const name = host.slice(0, width).padEnd(width);
  const head = `${name}  ${line.phase.padEnd(12)} ${progressOf(line)} ${took.padStart(9)}  `;
  const note = stripControl(noteOf(line)).slice(0, Math.max(0, columns - head.length - 1));
  const paint = paintOf(line, style);
  const told = line.phase === 'rolled-back' || line.phase === 'failed' ? note : style.dim(note);
  return `${style.bold(name)}  ${paint(line.phase.padEnd(12))} ${style.dim(progressOf(line))} ${took.padStart(9)}  ${told}`;
}

function noteOf({ phase, note, copied, toCopy }: HostLine): string {
  return phase === 'copying' && toCopy > 0 ? `${Math.min(copied, toCopy)} of ${toCopy} paths` : note;
}

/** Seven steps; a host that is not on its way forward shows none. */
function progressOf({ phase }: HostLine): string {
  const steps = WAY.findIndex((step) => step === phase) + 1;
  return `${'#'.repeat(steps)}${'.'.repeat(WAY.length - steps)}`;
}

function paintOf({ phase }: HostLine, style: Style): (text: string) => string {
  if (GOOD.some((good) => good === phase)) return (text) => style.good(text);
  if (BAD.some((bad) => bad === phase)) return (text) => style.bad(text);
  return phase === 'waiting' ? (text) => style.dim(text) : (text) => style.accent(text);
}

/** What an interrupted client leaves behind on each host, for a person who pressed Ctrl-C. */
export function describeLeft(board: Board): string[] {
  return [...board].map(([host, line]) => {
    if (line.phase === 'waiting') return `${host}: was not begun`;
    if (line.phase === 'unchanged') return `${host}: ran this system already`;
    if (isOver(line)) return `${host}: ${line.phase}${line.note === '' ? '' : ` (${line.note})`}`;
    if (line.phase === 'preparing' || line.phase === 'copying')
      return `${host}: nothing was changed; what was copied is kept`;
    return `${host}: ${line.phase}; it decides by itself and goes back unless it was confirmed. Follow it: slipway deploy resume ${host}`;
  });
}
