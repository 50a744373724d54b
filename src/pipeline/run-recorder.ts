// What a run tells and measures: stages with their duration, host phases, problems, and how much of the time was spent
// outside Slipway (nix, ssh, the health window). Outside time is a union of intervals: two evaluations side by side
// count once.
import type { EmitRunEvent, RunEventBody, Stage } from '../api/run-events.ts';
import { asSlipwayError, type SlipwayError } from '../util/errors.ts';

interface Interval {
  readonly from: number;
  readonly to: number;
}

export class RunRecorder {
  readonly #emit: EmitRunEvent;
  readonly #started = performance.now();
  readonly #outside: Interval[] = [];
  readonly #byName = new Map<string, number>();
  readonly #troubled = new Set<Stage>();

  constructor(emit: EmitRunEvent) {
    this.#emit = emit;
  }

  /** Passes an event on; spans that others measured are counted. */
  readonly emit = (event: RunEventBody): void => {
    if (event.kind === 'span' && event.outside) this.#count(event.name, performance.now() - event.ms);
    else this.#emit(event);
  };

  /**
   * Runs a stage; its failure is reported under the stage and thrown on. A stage that went on without a host that failed
   * in it is told as partly done; the last one, deploy, as failed: nothing goes on after it.
   */
  async stage<T>(stage: Stage, work: () => Promise<T>, note?: (value: T) => string | undefined): Promise<T> {
    this.#emit({ kind: 'stage-started', stage });
    const started = performance.now();
    try {
      const value = await work();
      const said = note?.(value);
      const ms = performance.now() - started;
      this.#emit({
        kind: 'stage-finished',
        stage,
        outcome: this.#outcomeOf(stage),
        ms,
        ...(said !== undefined && { note: said }),
      });
      return value;
    } catch (error) {
      const ms = performance.now() - started;
      this.problem(asSlipwayError(error), { stage });
      this.#emit({ kind: 'stage-finished', stage, outcome: 'failed', ms });
      throw new ReportedError(error);
    }
  }

  #outcomeOf(stage: Stage): 'ok' | 'partly' | 'failed' {
    if (!this.#troubled.has(stage)) return 'ok';
    return stage === 'deploy' ? 'failed' : 'partly';
  }

  skip(stage: Stage, note: string): void {
    this.#emit({ kind: 'stage-finished', stage, outcome: 'skipped', note });
  }

  problem(error: SlipwayError, where: { readonly stage?: Stage; readonly host?: string } = {}): void {
    const { code, message, next } = error;
    if (where.stage !== undefined) this.#troubled.add(where.stage);
    this.#emit({ kind: 'problem', code, message, ...(next !== undefined && { next }), ...where });
  }

  /** Tells why the run failed, unless its stage has told it. */
  failure(error: unknown): void {
    if (!(error instanceof ReportedError)) this.problem(asSlipwayError(error));
  }

  /** Measures work that waits for something outside Slipway. */
  async outside<T>(name: string, work: () => Promise<T>): Promise<T> {
    const from = performance.now();
    try {
      return await work();
    } finally {
      this.#count(name, from);
    }
  }

  /** Milliseconds since the run began. */
  elapsed(): number {
    return performance.now() - this.#started;
  }

  /** Tells the breakdown: one span a name, and what remains as Slipway's own. */
  finish(): void {
    for (const [name, ms] of this.#byName) this.#emit({ kind: 'span', name, ms, outside: true });
    const own = Math.max(0, this.elapsed() - unionLength(this.#outside));
    this.#emit({ kind: 'span', name: 'slipway', ms: own, outside: false });
  }

  #count(name: string, from: number): void {
    const to = performance.now();
    this.#outside.push({ from, to });
    this.#byName.set(name, (this.#byName.get(name) ?? 0) + to - from);
  }
}

/** An error that its stage has told already: the run's end must not tell it twice. */
export class ReportedError extends Error {
  override readonly cause: unknown;

  constructor(cause: unknown) {
    super('reported', { cause });
    this.cause = cause;
  }
}

/** The length that intervals cover together. */
export function unionLength(intervals: readonly Interval[]): number {
  let covered = 0;
  let end = Number.NEGATIVE_INFINITY;
  for (const { from, to } of intervals.toSorted((a, b) => a.from - b.from)) {
    covered += Math.max(0, to - Math.max(from, end));
    end = Math.max(end, to);
  }
  return covered;
}
