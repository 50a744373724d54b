// The control plane's state: hosts, runs, events, and who watches. Everything that must survive is in the database;
// what is shown of repositories lives in memory, because the next look at the branch tells it anew.
import type { AgentAnswer, AgentReport } from '../api/agent-report.ts';
import type {
  EventPage,
  FleetStatus,
  RepositoryStatus,
  RunAnswer,
  RunStatus,
  StoredEvent,
} from '../api/fleet-status.ts';
import type { RunEvent } from '../api/run-events.ts';
import type { Database } from '../storage/database.ts';
import { SlipwayError } from '../util/errors.ts';
import { rememberDelivery } from './delivery-store.ts';
import { appendEvents, lastEventId, listEventsAfter, listRunEvents } from './event-store.ts';
import { followEvents } from './follow-events.ts';
import { hostAfterInterruption, hostAfterReport } from './host-status.ts';
import { listHosts, updateHost } from './host-store.ts';
import { LiveHub } from './live-hub.ts';
import { recordReportedSystems } from './root-store.ts';
import { decideRun, type RunDecision, type RunTrigger } from './run-decision.ts';
import * as runs from './run-store.ts';
import type { RunOutcome } from './run-store.ts';

export interface FleetOptions {
  readonly database: Database;
  readonly repositories: readonly Pick<RepositoryStatus, 'name' | 'branch' | 'releaseBranch'>[];
  /** Ended runs that are kept for each repository. */
  readonly keepRuns: number;
  readonly now?: () => number;
}

/** A commit that somebody names. */
export interface CommitNews {
  readonly repository: string;
  readonly branch: string;
  readonly commit: string;
  readonly trigger: RunTrigger;
  /** The webhook delivery that told it. */
  readonly delivery?: string;
}

/** What the poller and the runner beside the server are woken for. */
export type Work = { readonly kind: 'look' | 'queued'; readonly repository: string };

const SHOWN_RUNS = 50;
/** Seconds after which an agent's next report is expected. */
const NEXT_REPORT_SECONDS = 30;
const STOPPED = 'The server stopped while the run was under way.';

/** Opens the state; runs that a stop of the server cut off become failed ones. */
export async function openFleet(options: FleetOptions): Promise<Fleet> {
  const fleet = new Fleet(options);
  await fleet.recover();
  return fleet;
}

export class Fleet {
  readonly live = new LiveHub();
  readonly #database: Database;
  readonly #repositories: Map<string, RepositoryStatus>;
  readonly #keepRuns: number;
  readonly #now: () => number;
  readonly #workers = new Set<(work: Work) => void>();
  #runners = 0;

  constructor(options: FleetOptions) {
    this.#database = options.database;
    // Only what may be shown: the caller's objects may hold more.
    const shown = options.repositories.map(({ name, branch, releaseBranch }) => ({
      name,
      branch,
      releaseBranch,
    }));
    this.#repositories = new Map(shown.map((one) => [one.name, one]));
    this.#keepRuns = options.keepRuns;
    this.#now = options.now ?? Date.now;
  }

  /** Marks runs that nobody works on any more. Called once, before any runner is there. */
  async recover(): Promise<void> {
    const at = this.#now();
    await this.#database.write(async (tx) => {
      // Runs of repositories that another server looks after are not ours to end.
      const cut = (await runs.listOpenRuns(tx)).filter(
        (run) => run.state === 'running' && this.#repositories.has(run.repository),
      );
      for (const run of cut) {
        await runs.endRun(tx, run.id, { ...interrupted(STOPPED), note: STOPPED }, at);
      }
      if (this.#repositories.size === 0) return;
      const text = new Date(at).toISOString();
      for (const host of await listHosts(tx)) {
        await updateHost(tx, host.name, text, (before) => hostAfterInterruption(before, text));
      }
    });
  }

  /** Decides what the commit means and does it; the answer says why. Throws `not_found` for an unknown repository. */
  async hearOfCommit(news: CommitNews): Promise<RunAnswer> {
    const repository = this.getRepository(news.repository);
    const { decision, row } = await this.#database.write(async (tx) => {
      const seen =
        news.delivery !== undefined &&
        !(await rememberDelivery(tx, news.repository, news.delivery, this.#now()));
      if (seen) return { decision: seenBefore(news), row: undefined };
      const facts = await runs.readRunFacts(tx, news.repository, news.commit);
      const decision = decideRun({
        ...facts,
        ...news,
        watchedBranch: repository.branch,
        releaseBranch: repository.releaseBranch,
      });
      return { decision, row: await this.#apply(tx, news, decision) };
    });
    if (row) await this.#publishRun(row);
    // A forge's word that leads to a run is a look at the branch too.
    if (row && news.trigger === 'webhook') this.recordLook(news.repository, { head: news.commit });
    if (decision.kind === 'look') this.wake({ kind: 'look', repository: news.repository });
    if (decision.kind === 'start') this.wake({ kind: 'queued', repository: news.repository });
    return { decision: decision.kind, reason: decision.reason, ...(row && { run: String(row.id) }) };
  }

  async #apply(
    tx: Parameters<typeof runs.insertRun>[0],
    news: CommitNews,
    decision: RunDecision,
  ): Promise<runs.RunRow | undefined> {
    const { reason } = decision;
    if (decision.kind === 'start') return await runs.insertRun(tx, { ...news, reason, at: this.#now() });
    if (decision.kind !== 'coalesce') return undefined;
    return await runs.retargetRun(tx, Number(decision.into), { commit: news.commit, reason });
  }

  /** Takes the next waiting run of the repository, if no other one of it is under way. */
  async claimRun(repository: string): Promise<RunStatus | undefined> {
    const row = await this.#database.write(async (tx) => await runs.claimRun(tx, repository, this.#now()));
    if (!row) return undefined;
    await this.#publishRun(row);
    return runs.runStatusOf(row);
  }

  /** Stores the events, durable when this resolves, and updates the hosts that they are about. */
  async recordEvents(id: string, events: readonly RunEvent[]): Promise<void> {
    const { stored, followed } = await this.#database.write(async (tx) => {
      const stored = await appendEvents(tx, Number(id), events);
      const kept = stored.map(({ event }) => event);
      return { stored, followed: await followEvents(tx, Number(id), kept) };
    });
    this.live.publish(stored.map((data) => ({ name: 'event', data })));
    this.live.publish(followed.hosts.map((data) => ({ name: 'host', data })));
    const row = followed.runChanged ? await runs.findRun(this.#database.read, Number(id)) : undefined;
    if (row) await this.#publishRun(row);
  }

  async endRun(id: string, outcome: RunOutcome): Promise<void> {
    const row = await this.#database.write(async (tx) => {
      const ended = await runs.endRun(tx, Number(id), outcome, this.#now());
      if (ended) await runs.deleteOldRuns(tx, ended.repository, this.#keepRuns);
      return ended;
    });
    if (!row) return;
    await this.#publishRun(row);
    this.wake({ kind: 'queued', repository: row.repository });
  }

  async recordReport(report: AgentReport): Promise<AgentAnswer> {
    const at = new Date(this.#now()).toISOString();
    const host = await this.#database.write(async (tx) => {
      await recordReportedSystems(tx, report, Date.parse(at));
      return await updateHost(tx, report.host, at, (before) =>
        hostAfterReport(before, report, at, NEXT_REPORT_SECONDS),
      );
    });
    this.live.publish([{ name: 'host', data: host }]);
    return { version: 1, nextPollSeconds: NEXT_REPORT_SECONDS };
  }

  /** What the poller saw of a branch. */
  recordLook(name: string, seen: Pick<RepositoryStatus, 'head' | 'problem'>): void {
    const { head, problem: _gone, ...kept } = this.getRepository(name);
    const known = seen.head ?? head;
    const after: RepositoryStatus = {
      ...kept,
      ...(known !== undefined && { head: known }),
      lookedAt: new Date(this.#now()).toISOString(),
      ...(seen.problem && { problem: seen.problem }),
    };
    this.#repositories.set(name, after);
    this.live.publish([{ name: 'repository', data: after }]);
  }

  async readStatus(): Promise<FleetStatus> {
    const db = this.#database.read;
    return {
      version: 1,
      at: new Date(this.#now()).toISOString(),
      repositories: [...this.#repositories.values()],
      hosts: await listHosts(db),
      runs: await this.#listRuns(),
      lastEvent: await lastEventId(db),
    };
  }

  async getRun(id: string): Promise<RunStatus> {
    const row = /^\d{1,15}$/.test(id) ? await runs.findRun(this.#database.read, Number(id)) : undefined;
    if (!row)
      throw new SlipwayError('not_found', `There is no run ${id}.`, { next: 'See GET /api/v1/status.' });
    return runs.runStatusOf(row, await this.#waitingReason(row));
  }

  async listRunEvents(id: string, after: number, limit: number): Promise<EventPage> {
    const run = await this.getRun(id);
    return await listRunEvents(this.#database.read, Number(run.id), after, limit);
  }

  async listEventsAfter(id: number, limit: number): Promise<StoredEvent[]> {
    return await listEventsAfter(this.#database.read, id, limit);
  }

  getRepository(name: string): RepositoryStatus {
    const repository = this.#repositories.get(name);
    if (repository) return repository;
    throw new SlipwayError(
      'not_found',
      `There is no repository called ${JSON.stringify(name.slice(0, 60))}.`,
      {
        next: `Known: ${[...this.#repositories.keys()].join(', ') || 'none; add one to the configuration'}.`,
      },
    );
  }

  /** Calls `worker` for each piece of work until disposed. `runner` tells that it takes queued runs. */
  onWork(worker: (work: Work) => void, options: { readonly runner: boolean }): Disposable {
    const count = options.runner ? 1 : 0;
    this.#workers.add(worker);
    this.#runners += count;
    return {
      [Symbol.dispose]: () => {
        if (this.#workers.delete(worker)) this.#runners -= count;
      },
    };
  }

  wake(work: Work): void {
    for (const worker of this.#workers) worker(work);
  }

  async #listRuns(): Promise<RunStatus[]> {
    const rows = await runs.listRuns(this.#database.read, SHOWN_RUNS);
    return await Promise.all(rows.map(async (row) => runs.runStatusOf(row, await this.#waitingReason(row))));
  }

  /** Why a queued run has not begun. */
  async #waitingReason(row: runs.RunRow): Promise<string | undefined> {
    if (row.state !== 'queued') return undefined;
    if (this.#runners === 0) return 'No runner is attached to this server.';
    const facts = await runs.readRunFacts(this.#database.read, row.repository, row.commit_id);
    if (facts.running) return `Run ${facts.running.id} of this repository is under way.`;
    return 'The runner is busy with other repositories.';
  }

  async #publishRun(row: runs.RunRow): Promise<void> {
    this.live.publish([{ name: 'run', data: runs.runStatusOf(row, await this.#waitingReason(row)) }]);
  }
}

/** The outcome of a run that did not end by itself. */
export function interrupted(message: string): RunOutcome {
  return {
    state: 'failed',
    note: message,
    problem: {
      code: 'cancelled',
      message,
      next: 'It is started again by itself once; after that start it by hand.',
    },
    interrupted: true,
  };
}

function seenBefore(news: CommitNews): RunDecision {
  return { kind: 'ignore', reason: `The delivery ${news.delivery ?? ''} was seen before.` };
}
