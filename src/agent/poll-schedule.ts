// When each remote is asked next: its own period, longer while it does not answer, with jitter so that a fleet does
// not ask a forge in step.

const LONGEST_PAUSE_MS = 5 * 60_000;
const JITTER = 0.1;

export class PollSchedule {
  readonly #periods: readonly number[];
  readonly #next: number[];
  readonly #failures: number[];

  /** Periods in seconds, one a remote; every remote is due at once. */
  constructor(periods: readonly number[]) {
    this.#periods = periods;
    this.#next = periods.map(() => 0);
    this.#failures = periods.map(() => 0);
  }

  isDue(index: number, now = Date.now()): boolean {
    return now >= (this.#next[index] ?? 0);
  }

  /** Notes that a remote was asked, and whether it answered. */
  asked(index: number, answered: boolean, now = Date.now()): void {
    const failures = answered ? 0 : (this.#failures[index] ?? 0) + 1;
    this.#failures[index] = failures;
    const period = (this.#periods[index] ?? 0) * 1000;
    const pause = Math.min(Math.max(period, LONGEST_PAUSE_MS), period * 2 ** failures);
    this.#next[index] = now + pause * (1 + JITTER * (Math.random() - 0.5));
  }

  /** Makes every remote due now: somebody asked. */
  wakeAll(): void {
    this.#next.fill(0);
  }

  /** Milliseconds until the next remote is due. */
  pauseMs(now = Date.now()): number {
    return Math.max(0, Math.min(...this.#next) - now);
  }
}
