// What to do about a commit that a webhook, the poller or a person names: a pure decision over the runs that there are.
// A webhook is a hint (deliveries come twice, late and out of order); the poller reads the branch itself.

export type RunTrigger = 'webhook' | 'poll' | 'manual';

export interface RunFacts {
  readonly trigger: RunTrigger;
  readonly branch: string;
  readonly commit: string;
  readonly watchedBranch: string;
  readonly releaseBranch: string;
  /** The run of this repository that waits, and the one that is under way. */
  readonly queued: KnownRun | undefined;
  readonly running: KnownRun | undefined;
  /** The newest run that has ended. */
  readonly last: EndedRun | undefined;
  /** How many runs of this commit there were, and how many of them a stop of the server ended. */
  readonly runsOfCommit: number;
  readonly interruptedOfCommit: number;
}

export interface KnownRun {
  readonly id: string;
  readonly commit: string;
}

export interface EndedRun extends KnownRun {
  readonly interrupted: boolean;
}

export type RunDecision =
  | { readonly kind: 'start'; readonly reason: string }
  /** The waiting run takes the newer commit: only the newest of many pushes is run. */
  | { readonly kind: 'coalesce'; readonly into: string; readonly reason: string }
  /** The commit was run before: only the branch itself can tell whether it is its head again. */
  | { readonly kind: 'look'; readonly reason: string }
  | { readonly kind: 'ignore'; readonly reason: string };

/** A commit whose runs were interrupted this often is not started again by itself: it may be what stops the server. */
const MOST_INTERRUPTIONS = 2;

export function decideRun(facts: RunFacts): RunDecision {
  return byBranch(facts) ?? byQueue(facts) ?? byHistory(facts) ?? { kind: 'start', reason: whyStart(facts) };
}

function byBranch(facts: RunFacts): RunDecision | undefined {
  const { branch, watchedBranch } = facts;
  if (branch === watchedBranch) return undefined;
  if (isOwnBranch(facts)) return ignore(`${branch} is written by Slipway itself.`);
  return ignore(`Only ${watchedBranch} is watched, and the push was to ${branch}.`);
}

function isOwnBranch({ branch, releaseBranch }: RunFacts): boolean {
  return branch === releaseBranch || branch === `${releaseBranch}-manifest`;
}

function byQueue({ trigger, commit, queued, running, runsOfCommit }: RunFacts): RunDecision | undefined {
  if (queued?.commit === commit) return ignore(`The commit waits already as run ${queued.id}.`);
  if (running?.commit === commit && trigger !== 'manual') {
    return ignore(`The commit is being run as run ${running.id}.`);
  }
  if (trigger === 'webhook' && runsOfCommit > 0) {
    return { kind: 'look', reason: 'The commit was run before; the branch is asked for its head.' };
  }
  if (queued === undefined) return undefined;
  return {
    kind: 'coalesce',
    into: queued.id,
    reason: `Run ${queued.id} was still waiting and takes this commit.`,
  };
}

function byHistory(facts: RunFacts): RunDecision | undefined {
  const { trigger, commit, last, interruptedOfCommit } = facts;
  if (trigger === 'manual' || last?.commit !== commit) return undefined;
  if (!last.interrupted) return ignore(`The branch has not moved since run ${last.id}.`);
  if (interruptedOfCommit < MOST_INTERRUPTIONS) return undefined;
  return ignore(`The commit's runs were interrupted ${interruptedOfCommit} times; start it by hand.`);
}

function whyStart({ trigger, branch, commit, last }: RunFacts): string {
  if (trigger === 'manual') return 'asked for by hand';
  if (last?.commit === commit) return `run ${last.id} was interrupted`;
  return trigger === 'webhook' ? `push to ${branch}` : `${branch} moved`;
}

function ignore(reason: string): RunDecision {
  return { kind: 'ignore', reason };
}
