// One trial as its client sees it: watched over the shared connection, confirmed over fresh ones. When the connection
// dies, it comes back and reads what the host did meanwhile.
import type { HookResult } from '../api/deploy-hooks.ts';
import type { DeployIntent, DeployState } from '../api/deploy-state.ts';
import { deadline, sleep } from '../util/deadline.ts';
import { asSlipwayError, isCode } from '../util/errors.ts';
import { retry } from '../util/retry.ts';
import type { DeployProgress } from './deploy-progress.ts';
import type { DeployRequest } from './deploy-request.ts';
import { isGoingDown } from './follow-trial.ts';
import type { Reachable } from './reachable.ts';
import { confirmTrial, readTrial, rejectTrial, startTrial, watchTrial } from './trial.ts';
import { longestTrial } from './trial-intent.ts';

const RECONNECT_PAUSE_MS = 1_000;
const CONFIRM_PAUSE_MS = 1_000;
const CANCEL_PATIENCE_MS = 60_000;
const ASK_AGAIN = { attempts: 6, baseMs: 1_000, maxMs: 5_000 };

export class PushTrial {
  readonly #host: Reachable;
  readonly #intent: DeployIntent;
  readonly #token: string | undefined;
  readonly #progress: DeployProgress;
  #confirming = false;
  #rebooting = false;
  /** The host tells all its states and its log again to every new connection. */
  readonly #seen = new Set<string>();
  #logged = 0;
  #hooks: HookResult[] = [];

  constructor(host: Reachable, intent: DeployIntent, token: string | undefined, progress: DeployProgress) {
    this.#host = host;
    this.#intent = intent;
    this.#token = token;
    this.#progress = progress;
  }

  async start(request: DeployRequest): Promise<DeployState> {
    try {
      const state = await startTrial(this.#host.host, this.#intent, request);
      this.#progress.state(state);
      return state;
    } catch (error) {
      // The answer may be lost although the trial began: only the host knows.
      if (!isCode(error, 'host_unreachable')) throw error;
      return await retry(ASK_AGAIN, async () => await readTrial(this.#host.next(), this.#intent.id));
    }
  }

  /** What became of the hooks on the host. */
  get hooks(): readonly HookResult[] {
    return this.#hooks;
  }

  /** Watches until the end; reconnects for as long as the trial can last. */
  async follow(signal: AbortSignal | undefined): Promise<DeployState> {
    const ended = new AbortController();
    const limit = deadline(longestTrial(this.#intent) * 1000, signal, ended.signal);
    let { host } = this.#host;
    for (;;) {
      try {
        let lines = 0;
        const watcher = {
          onState: (state: DeployState) => this.#see(state, limit),
          onLog: (line: string) => this.#log(line, ++lines),
          onHook: (result: HookResult) => void this.#hooks.push(result),
        };
        this.#hooks = [];
        const state = await watchTrial(host, this.#intent, watcher, limit);
        ended.abort();
        return state;
      } catch (error) {
        if (!isCode(error, 'host_unreachable') || limit.aborted) throw error;
        // A host that was seen to go down is not worth a line for each second.
        if (!this.#rebooting) this.#progress.log(`connection lost, trying again: ${error.message}`);
        await sleep(RECONNECT_PAUSE_MS, limit);
        host = this.#host.next();
      }
    }
  }

  /** Tells the host to go back, and sees it off; one that does not hear of it goes back for want of a confirmation. */
  async cancel(): Promise<void> {
    const host = this.#host.next();
    try {
      await rejectTrial(host, this.#intent.id, 'cancelled', 'Cancelled by the client.');
      const watcher = { onState: (state: DeployState) => this.#progress.state(state) };
      await watchTrial(host, this.#intent, watcher, deadline(CANCEL_PATIENCE_MS));
    } catch (error) {
      this.#progress.log(`how it ended is not known: ${asSlipwayError(error).message}`);
    }
  }

  #log(line: string, count: number): void {
    if (count <= this.#logged) return;
    this.#logged = count;
    this.#progress.log(line);
  }

  #see(state: DeployState, limit: AbortSignal): void {
    const key = `${state.phase} ${state.since}`;
    if (!this.#seen.has(key)) this.#progress.state(state);
    this.#seen.add(key);
    this.#rebooting = isGoingDown(state);
    if (state.phase !== 'AWAIT_CONFIRM' || this.#token === undefined || this.#confirming) return;
    this.#confirming = true;
    void this.#confirm(this.#token, limit);
  }

  /** A new connection, and a new one again, until the host has heard us or time is up: then the host decides. */
  async #confirm(token: string, limit: AbortSignal): Promise<void> {
    const until = deadline(this.#intent.confirmTimeout * 1000, limit);
    while (!until.aborted) {
      try {
        await confirmTrial(this.#host.forConfirmation(), this.#intent.id, token);
        return;
      } catch (error) {
        this.#progress.log(`confirmation failed: ${asSlipwayError(error).message}`);
        await sleep(CONFIRM_PAUSE_MS, until).catch(() => undefined);
      }
    }
  }
}
