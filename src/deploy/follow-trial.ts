// Watches a trial that reboots its host: the connection dies with the old system, and a new one finds the next.
import type { DeployState } from '../api/deploy-state.ts';
import type { Host } from '../effects/host.ts';
import { deadline, sleep } from '../util/deadline.ts';
import { isCode } from '../util/errors.ts';
import { type TrialWatcher, watchTrial } from './trial.ts';

const PAUSE_MS = 1_000;
/** Longest time without the host, from the last sign of it. */
const REBOOT_PATIENCE_MS = 20 * 60_000;

/** Whether a host in this phase may be gone the next moment, because it was told to reboot. */
export function isGoingDown({ phase }: DeployState): boolean {
  return phase === 'REBOOTING' || phase === 'ROLLING_BACK';
}

/** Like `watchTrial`, each state and line once; a host that is lost at any other moment is `host_unreachable`. */
export async function followTrial(
  host: Host,
  id: string,
  watcher: TrialWatcher,
  signal?: AbortSignal,
): Promise<DeployState> {
  const once = tellOnce(watcher);
  let connection = host;
  let patience = deadline(REBOOT_PATIENCE_MS, signal);
  for (;;) {
    try {
      return await watchTrial(connection, { id }, once.anew(), signal);
    } catch (error) {
      if (!isCode(error, 'host_unreachable') || !once.goingDown || patience.aborted) throw error;
      if (once.heard()) patience = deadline(REBOOT_PATIENCE_MS, signal);
      await sleep(PAUSE_MS, signal);
      connection = host.fresh();
    }
  }
}

/** The host tells all its states and its log again to every new connection. */
function tellOnce(watcher: TrialWatcher): {
  readonly anew: () => TrialWatcher;
  readonly heard: () => boolean;
  readonly goingDown: boolean;
} {
  const seen = new Set<string>();
  let [logged, last, told] = [0, undefined as DeployState | undefined, false];
  const onState = (state: DeployState): void => {
    [last, told] = [state, true];
    const key = `${state.phase} ${state.since}`;
    if (!seen.has(key)) watcher.onState(state);
    seen.add(key);
  };
  return {
    anew: () => {
      let line = 0;
      const onLog = (text: string): void => {
        if (++line <= logged) return;
        logged = line;
        watcher.onLog?.(text);
      };
      return { ...watcher, onState, onLog };
    },
    heard: () => {
      const before = told;
      told = false;
      return before;
    },
    get goingDown() {
      return last !== undefined && isGoingDown(last);
    },
  };
}
