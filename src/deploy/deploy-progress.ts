// Turns what a deploy sees into run events: host phases, activation log, and spans of time spent outside Slipway.
import type { DeployState } from '../api/deploy-state.ts';
import type { EmitRunEvent, HostPhase } from '../api/run-events.ts';
import { hostPhaseOf } from './deploy-outcome.ts';

/** The span that each phase of the host belongs to; phases without one are Slipway's own time. */
const SPANS: Partial<Record<DeployState['phase'], string>> = {
  ACTIVATING: 'activate',
  STAGING: 'stage',
  REBOOTING: 'reboot',
  BOOT_TRIAL: 'health',
  TRIAL: 'health',
  AWAIT_CONFIRM: 'confirm',
  COMMITTING: 'commit',
  ROLLING_BACK: 'rollback',
};

/** The runner's own record of its phases, which arrive as states too. */
const RUNNER_PHASE = /^slipway: [A-Z_]+( |$)/;

export class DeployProgress {
  readonly #host: string;
  readonly #emit: EmitRunEvent;
  readonly #toplevel: string;
  #last: HostPhase | undefined;
  #open: { readonly name: string; readonly since: number } | undefined;

  constructor(host: string, toplevel: string, emit: EmitRunEvent) {
    this.#host = host;
    this.#toplevel = toplevel;
    this.#emit = emit;
  }

  phase(phase: HostPhase, note?: string): void {
    if (phase === this.#last) return;
    this.#last = phase;
    const said = note === undefined || note === '' ? {} : { note };
    this.#emit({ kind: 'host', host: this.#host, phase, toplevel: this.#toplevel, ...said });
  }

  state(state: DeployState): void {
    this.#closeSpan();
    const name = SPANS[state.phase];
    if (name !== undefined) this.#open = { name, since: performance.now() };
    this.phase(hostPhaseOf(state), [state.reason, state.detail].filter((text) => text !== '').join(': '));
  }

  log(line: string): void {
    if (RUNNER_PHASE.test(line)) return;
    this.#emit({ kind: 'log', stage: 'deploy', host: this.#host, line });
  }

  /** Runs `work` and reports how long it took as time outside Slipway. */
  async span<T>(name: string, work: () => Promise<T>): Promise<T> {
    const since = performance.now();
    try {
      return await work();
    } finally {
      this.#span(name, performance.now() - since);
    }
  }

  #closeSpan(): void {
    if (this.#open !== undefined) this.#span(this.#open.name, performance.now() - this.#open.since);
    this.#open = undefined;
  }

  #span(name: string, ms: number): void {
    this.#emit({ kind: 'span', name: `${name} ${this.#host}`, ms, outside: true });
  }
}
