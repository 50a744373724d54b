// The line to the control plane: at most one report under way, one more remembered; what it answered is in the
// agent's state. Reporting never holds up the agent and never fails it.
import type { AgentConfig } from '../api/agent-config.ts';
import type { AgentAnswer, AgentReport } from '../api/agent-report.ts';
import { asSlipwayError } from '../util/errors.ts';
import type { AgentMemory } from './agent-memory.ts';
import type { AgentState } from './agent-state.ts';
import { sendReport } from './report-client.ts';

type Controller = NonNullable<AgentConfig['controller']>;

/** Doubles with each miss: a moment without network is over soon, a controller that is down is asked every 10 min. */
const FIRST_PAUSE_MS = 2_000;
const LONGEST_INTERVAL_MS = 10 * 60_000;
const SHORTEST_INTERVAL_MS = 1_000;

export interface LinkOptions {
  readonly controller: Controller | undefined;
  readonly memory: AgentMemory;
  readonly makeReport: () => Promise<AgentReport>;
  readonly signal: AbortSignal;
}

export class ControllerLink {
  readonly #options: LinkOptions;
  #sending: Promise<void> | undefined;
  #again = false;
  #failures = 0;
  #nextDue = 0;

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  /** Tells the controller how things are, now or right after the report under way. Returns at once. */
  report(): void {
    if (this.#options.controller === undefined) return;
    if (this.#sending) this.#again = true;
    else if (this.#failures === 0 || Date.now() >= this.#nextDue) this.#start();
  }

  /** Tells it when it expects to hear again, although nothing has changed. */
  reportIfDue(): void {
    if (this.dueInMs === 0) this.report();
  }

  /** Milliseconds until the controller expects to hear again; undefined without a controller. */
  get dueInMs(): number | undefined {
    return this.#options.controller === undefined ? undefined : Math.max(0, this.#nextDue - Date.now());
  }

  /** Resolves when nothing is under way any more. */
  async settle(): Promise<void> {
    while (this.#sending) await this.#sending;
  }

  #start(): void {
    this.#sending = this.#send().finally(() => {
      this.#sending = undefined;
      if (this.#again && !this.#options.signal.aborted) {
        this.#again = false;
        this.report();
      }
    });
  }

  async #send(): Promise<void> {
    const { controller, signal } = this.#options;
    if (controller === undefined || signal.aborted) return;
    try {
      const answer = await sendReport(controller, await this.#options.makeReport(), signal);
      await this.#heard(answer);
    } catch (error) {
      if (!signal.aborted) await this.#missed(asSlipwayError(error).message);
    }
  }

  async #heard(answer: AgentAnswer): Promise<void> {
    this.#failures = 0;
    this.#nextDue = Date.now() + Math.max(SHORTEST_INTERVAL_MS, answer.nextPollSeconds * 1000);
    const at = new Date().toISOString();
    const hold = answer.hold === undefined ? {} : { hold: answer.hold };
    await this.#note((state) => ({
      ...state,
      controller: { ok: true, note: '', at, answeredAt: at, ...hold },
    }));
  }

  async #missed(note: string): Promise<void> {
    this.#failures++;
    this.#nextDue = Date.now() + Math.min(LONGEST_INTERVAL_MS, FIRST_PAUSE_MS * 2 ** (this.#failures - 1));
    const at = new Date().toISOString();
    await this.#note((state) => ({ ...state, controller: { ...state.controller, ok: false, note, at } }));
  }

  /** A full disk must not end the agent here: its own step meets the same failure and tells it. */
  async #note(change: (state: AgentState) => AgentState): Promise<void> {
    await this.#options.memory.update(change).catch(() => undefined);
  }
}

/** The controller's wish to wait, while it is to be honoured: a silent controller's hold ends after the grace. */
export function holdInForce(state: AgentState, graceSeconds: number, now: Date): string | undefined {
  const { controller } = state;
  if (controller?.hold === undefined || controller.answeredAt === undefined) return undefined;
  const silent = now.getTime() - Date.parse(controller.answeredAt);
  return silent <= graceSeconds * 1000 ? controller.hold : undefined;
}
