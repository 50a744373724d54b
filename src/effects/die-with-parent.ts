// Long-running children must not outlive a killed Slipway: an orphaned `nix-store` would hold its locks and go on
// building for nobody. The kernel tells the child when its parent dies (prctl(2) PR_SET_PDEATHSIG), through util-linux'
// setpriv; where that is missing the child merely lives on until it is done.
import { spawnSync } from 'node:child_process';

const PREFIX = ['setpriv', '--pdeathsig', 'TERM', '--'];
const TRIAL_TIMEOUT_MS = 5_000;

let works: boolean | undefined;

/** `argv` as a command that gets TERM when this process dies. */
export function dieWithParent(argv: readonly string[]): readonly string[] {
  works ??= tryPrefix();
  return works ? [...PREFIX, ...argv] : argv;
}

/** Asked by doing it, once: busybox has a setpriv too, which does not know this option. */
function tryPrefix(): boolean {
  const [file, ...args] = [...PREFIX, 'true'];
  return spawnSync(file, args, { stdio: 'ignore', timeout: TRIAL_TIMEOUT_MS }).status === 0;
}
