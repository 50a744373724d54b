// One run as the page tells it, folded from its events: how far each stage and host is, what went wrong, where the
// time went. Events may come twice (replay and live); their sequence numbers sort that out.
import type { StoredEvent } from '../api/fleet-status.ts';
import type { RunEvent, Stage } from '../api/run-events.ts';

export interface StageStory {
  readonly stage: Stage;
  readonly state: 'waiting' | 'running' | 'ok' | 'partly' | 'failed' | 'skipped';
  readonly ms?: number;
  readonly note?: string;
}

export interface LogEntry {
  readonly seq: number;
  readonly stage: Stage;
  readonly host: string;
  readonly line: string;
}

export type Problem = Extract<RunEvent, { kind: 'problem' }>;
export type HostStep = Extract<RunEvent, { kind: 'host' }>;

export interface TimeSpent {
  readonly name: string;
  readonly ms: number;
  readonly outside: boolean;
}

export interface RunStory {
  /** The newest event that is told. */
  seq: number;
  readonly stages: Map<Stage, StageStory>;
  readonly hosts: Map<string, HostStep>;
  readonly problems: Problem[];
  readonly times: Map<string, TimeSpent>;
  /** The newest log lines; older ones are on the server. */
  readonly log: LogEntry[];
  dropped: number;
  totalMs: number | undefined;
}

export const STAGE_ORDER: readonly Stage[] = [
  'evaluate',
  'rekey',
  'build',
  'test',
  'cache',
  'publish',
  'deploy',
];

const MOST_LOG_LINES = 5_000;
const MOST_PROBLEMS = 50;

export function newStory(): RunStory {
  return {
    seq: 0,
    stages: new Map(STAGE_ORDER.map((stage) => [stage, { stage, state: 'waiting' }])),
    hosts: new Map(),
    problems: [],
    times: new Map(),
    log: [],
    dropped: 0,
    totalMs: undefined,
  };
}

/** Tells one more event; false when it was told before. */
export function tell(story: RunStory, { seq, event }: StoredEvent): boolean {
  if (seq <= story.seq) return false;
  story.seq = seq;
  TELLERS[event.kind]?.(story, event as never, seq);
  return true;
}

type Teller<K extends RunEvent['kind']> = (
  story: RunStory,
  event: Extract<RunEvent, { kind: K }>,
  seq: number,
) => void;

const TELLERS: { readonly [K in RunEvent['kind']]?: Teller<K> } = {
  'stage-started': (story, { stage }) => void story.stages.set(stage, { stage, state: 'running' }),
  'stage-finished': (story, { stage, outcome, ms, note }) => {
    const more = { ...(ms !== undefined && { ms }), ...(note !== undefined && { note }) };
    story.stages.set(stage, { stage, state: outcome, ...more });
  },
  host: (story, event) => void story.hosts.set(event.host, event),
  problem: (story, event) => {
    if (story.problems.length < MOST_PROBLEMS) story.problems.push(event);
  },
  span: (story, { name, ms, outside }) => {
    const before = story.times.get(name)?.ms ?? 0;
    story.times.set(name, { name, ms: before + ms, outside });
  },
  log: (story, { stage, host, line }, seq) => {
    story.log.push({ seq, stage, host: host ?? '', line });
    if (story.log.length <= MOST_LOG_LINES) return;
    story.log.splice(0, story.log.length - MOST_LOG_LINES);
    story.dropped += 1;
  },
  'run-finished': (story, { ms }) => {
    story.totalMs = ms;
    for (const [stage, told] of story.stages) {
      if (told.state === 'waiting') story.stages.set(stage, { stage, state: 'skipped' });
    }
  },
};
