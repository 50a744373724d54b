// Brings many hosts to their systems: so many at a time, wave by wave. No host stops the others of its wave by failing;
// what happens to the hosts after that is the policy's to say. Never throws for what a host did.
import { mapBounded } from '../util/concurrency.ts';
import { asSlipwayError, SlipwayError } from '../util/errors.ts';
import { deployError, type DeployOutcome } from './deploy-outcome.ts';

export interface RolloutPolicy {
  /** Hosts at a time. */
  readonly concurrency: number;
  /** Failed hosts that are put up with. Undefined: none, and that is looked at after each wave only. */
  readonly maxFailures: number | undefined;
  /** When more failed: go on all the same, start no further host, or also take back what was committed. */
  readonly onFailure: 'continue' | 'stop' | 'rollback';
  /** A host that cannot be reached: leave it out, try it again at the end, or count it as failed. */
  readonly offline: 'skip' | 'defer' | 'fail';
}

export interface RolloutHost {
  readonly name: string;
  /** Deploys all that is for this host; an outcome for each part, in order. */
  readonly deploy: () => Promise<DeployOutcome[]>;
  /** Undoes what `deploy` committed, for policy `rollback`; answers the outcomes that hold then. */
  readonly takeBack: (outcomes: readonly DeployOutcome[]) => Promise<DeployOutcome[]>;
}

/** The outcomes in the order of the waves. An abort is waited for on every host, then thrown. */
export async function runRollout(
  waves: readonly (readonly RolloutHost[])[],
  policy: RolloutPolicy,
  signal: AbortSignal,
): Promise<DeployOutcome[]> {
  const rollout = new Rollout(policy, signal);
  for (const wave of waves) await rollout.wave(wave);
  await rollout.finish();
  signal.throwIfAborted();
  return waves.flat().flatMap((host) => rollout.outcomesOf(host));
}

class Rollout {
  readonly #policy: RolloutPolicy;
  readonly #signal: AbortSignal;
  readonly #outcomes = new Map<RolloutHost, DeployOutcome[]>();
  readonly #deferred: RolloutHost[] = [];
  readonly #failed: string[] = [];

  constructor(policy: RolloutPolicy, signal: AbortSignal) {
    this.#policy = policy;
    this.#signal = signal;
  }

  outcomesOf(host: RolloutHost): DeployOutcome[] {
    return this.#outcomes.get(host) ?? [];
  }

  async wave(hosts: readonly RolloutHost[]): Promise<void> {
    const heldBack = this.#isOverBudget();
    await mapBounded(hosts, this.#policy.concurrency, async (host) => {
      const over = heldBack || (this.#policy.maxFailures !== undefined && this.#isOverBudget());
      if (over) this.#hold(host);
      else await this.#deploy(host, this.#policy.offline === 'defer');
    });
  }

  async finish(): Promise<void> {
    const over = this.#isOverBudget();
    await mapBounded(this.#deferred, this.#policy.concurrency, async (host) => {
      if (over) this.#hold(host);
      else await this.#deploy(host, false);
    });
    if (this.#policy.onFailure !== 'rollback' || this.#failed.length === 0 || !this.#isOverBudget()) return;
    await mapBounded([...this.#outcomes], this.#policy.concurrency, async ([host, outcomes]) => {
      const back = await this.#guard(host, async () => await host.takeBack(outcomes));
      this.#outcomes.set(host, back);
    });
  }

  #isOverBudget(): boolean {
    return this.#policy.onFailure !== 'continue' && this.#failed.length > (this.#policy.maxFailures ?? 0);
  }

  async #deploy(host: RolloutHost, mayDefer: boolean): Promise<void> {
    if (this.#signal.aborted) return;
    const outcomes = await this.#guard(host, async () => await host.deploy());
    const offline = outcomes.find((outcome) => outcome.kind === 'unreachable' && outcome.id === '');
    if (offline?.kind === 'unreachable' && offline.error.code === 'host_unreachable') {
      if (mayDefer) return void this.#deferred.push(host);
      if (this.#policy.offline === 'skip')
        return void this.#outcomes.set(host, [{ kind: 'skipped', host: host.name, error: offline.error }]);
      if (this.#policy.offline === 'defer')
        return void this.#outcomes.set(host, [stillOffline(host.name, offline.error)]);
    }
    this.#outcomes.set(host, outcomes);
    if (outcomes.some((outcome) => deployError(outcome) !== undefined)) this.#failed.push(host.name);
  }

  async #guard(host: RolloutHost, work: () => Promise<DeployOutcome[]>): Promise<DeployOutcome[]> {
    try {
      return await work();
    } catch (error) {
      return [{ kind: 'unreachable', host: host.name, id: '', error: asSlipwayError(error) }];
    }
  }

  #hold(host: RolloutHost): void {
    this.#outcomes.set(host, [{ kind: 'held-back', host: host.name, failed: [...this.#failed] }]);
  }
}

function stillOffline(host: string, cause: SlipwayError): DeployOutcome {
  const error = new SlipwayError(
    'deferred',
    `${host} was not reached, also not at the end: ${cause.message}`,
    {
      next: `Deploy it when it is back: slipway deploy ${host}`,
      cause,
      facts: { host },
    },
  );
  return { kind: 'failed', host, error };
}
