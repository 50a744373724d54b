// Takes waiting runs of one repository, one after another, and runs the pipeline for each.
import type { RunStatus } from '../api/fleet-status.ts';
import type { RepositoryConfig } from '../api/server-config.ts';
import { EventBatcher } from '../fleet/event-batcher.ts';
import type { RunOutcome } from '../fleet/run-store.ts';
import type { Semaphore } from '../util/concurrency.ts';
import type { ControlPlane } from './control-plane.ts';
import { runInChild } from './run-child.ts';

export interface RunWorkerOptions {
  readonly plane: ControlPlane;
  readonly repository: RepositoryConfig;
  /** Bounds the runs of all repositories together. */
  readonly places: Semaphore;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Told when a run begins (no outcome yet) and when it has ended. */
  readonly onRun: (run: RunStatus, outcome: RunOutcome | undefined) => void;
  readonly onError: (error: unknown) => void;
}

/** Works until the signal fires; a run that is then under way ends as interrupted. */
export async function workOnRuns(options: RunWorkerOptions): Promise<void> {
  const { plane, repository, places, signal } = options;
  const bell = new Bell(signal);
  using _work = plane.fleet.onWork(
    (work) => {
      if (work.kind === 'queued' && work.repository === repository.name) bell.ring();
    },
    { runner: true },
  );
  while (!signal.aborted) {
    const worked = await places.run(async () => await workOnce(options));
    if (!worked) await bell.heard();
  }
}

/** Runs the next waiting run; false when there is none. */
async function workOnce(options: RunWorkerOptions): Promise<boolean> {
  const { plane, repository, timeoutMs, signal } = options;
  if (signal.aborted) return false;
  const run = await plane.fleet.claimRun(repository.name);
  if (!run) return false;
  options.onRun(run, undefined);
  let outcome: RunOutcome;
  {
    await using events = new EventBatcher({
      store: async (batch) => await plane.fleet.recordEvents(run.id, batch),
      onError: options.onError,
    });
    outcome = await runInChild({
      plane,
      repository,
      run,
      timeoutMs,
      signal,
      onEvent: (event) => events.add(event),
    });
  }
  await plane.fleet.endRun(run.id, outcome);
  options.onRun(run, outcome);
  return true;
}

/** Remembers that there is work, also when it rings while nobody listens. */
class Bell {
  #rung = false;
  #wake: (() => void) | undefined;

  constructor(signal: AbortSignal) {
    signal.addEventListener('abort', () => this.ring(), { once: true });
  }

  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  async heard(): Promise<void> {
    if (!this.#rung) await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#wake = undefined;
    this.#rung = false;
  }
}
